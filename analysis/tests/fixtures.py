"""Run folders like those of vbon, written with h5py: the same datasets, types, attributes and checksums, around a small
world of words in which praise is what the reward counts.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

EOS = 0
T = 12
PRAISE = ["great", "lovely", "wonderful", "moving", "brilliant", "charming", "superb", "touching"]
OTHER = ["film", "dull", "slow", "story", "about", "a", "the", "plot", "bad", "actor", "and", "is", "of", "scene",
         "poor", "long", "with", "no", "too", "café", "naïve", "it", "was", "end"]  # fmt: skip
PROMPTS = ["The film is", "A story about <script>alert(1)</script>", "It was the", "Too long &", "Nobody in this",
           "Über die Brücke", "Once more the director", "If you like"]  # fmt: skip
LIBRARIES = {"hdf5": "1.10.8", "torch": "2.11.0"}


def byte_characters() -> dict[int, str]:
    """The character that stands for each byte in byte-level BPE."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(sorted(set(range(256)) - set(plain)))}


def vocabulary() -> list[str]:
    """Tokens by id: end of text, then words with the blank before them."""
    characters = byte_characters()
    return ["<|endoftext|>"] + ["".join(characters[b] for b in f" {w}".encode()) for w in PRAISE + OTHER]


def write_tokenizer(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    special = {"id": EOS, "content": "<|endoftext|>", "special": True, "normalized": False}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [special],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(vocabulary())}, "merges": []},
    }
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


def write_h5(
    path: Path, attributes: dict[str, Any], datasets: dict[str, Any], summary: dict[str, float] | None = None
) -> None:
    """As src/store does: user block with the checksum of the rest, texts of variable length in UTF-8, no filters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, value in datasets.items():
            if isinstance(value, list):
                file.create_dataset(name, data=value, dtype=h5py.string_dtype("utf-8"))
            else:
                file.create_dataset(name, data=value, chunks=value.shape if value.size else None)
        for name, value in (summary or {}).items():
            file.require_group("summary").attrs[name] = float(value)
    seal(path)


def add_to_summary(path: Path, figures: dict[str, float]) -> None:
    """To an evaluation that is there."""
    with h5py.File(path, "r+") as file:
        for name, value in figures.items():
            file["summary"].attrs[name] = value
    seal(path)


def seal(path: Path) -> None:
    """Writes the checksum that a changed file needs to be sound again."""
    content = path.read_bytes()
    line = b"vbon: sha256 of the bytes from 512 on: " + hashlib.sha256(content[512:]).hexdigest().encode()
    path.write_bytes(line.ljust(512, b"\n") + content[512:])


def provenance(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "format": kind,
        "schema_version": np.int64(1),
        "created_utc": "2026-03-01T12:00:00Z",
        "vbon_version": "0.1.0",
        "config": "run:\n  seed: 1\n",
        "seed": np.int64(1),
        "attempt": np.int64(1),
        "dtype": "float32",
        "threads_per_rank": np.int64(1),
        "device": "cpu",
        "library_versions": json.dumps(LIBRARIES),
        "reference_sha256": "a" * 64,
        "tokenizer_sha256": "b" * 64,
        "reward_sha256": "c" * 64,
        "prompts_sha256": "d" * 64,
        "content_sha256": "9" * 64,
        **more,
    }


@dataclass
class World:
    """Draws samples whose share of praise is `praise`."""

    seed: int = 0

    def block(self, num_prompts: int, m: int, praise: float, stream: int, first: str = "") -> dict[str, Any]:
        """`first`: the prompt that the others follow, for a set of prompts of its own."""
        draw = np.random.default_rng([self.seed, stream])
        tokens = np.full((num_prompts, m, T), -1, np.int32)
        drawn = draw.integers(4, T + 3, (num_prompts, m))
        length = np.minimum(drawn, T).astype(np.int32)
        finished = (drawn <= T).astype(np.uint8)
        for p, s in np.ndindex(num_prompts, m):
            is_praise = draw.random(T) < praise + 0.1 * np.sin(p)
            words = np.where(is_praise, draw.integers(1, 9, T), draw.integers(9, 9 + len(OTHER), T))
            tokens[p, s, : length[p, s]] = words[: length[p, s]]
            if finished[p, s]:
                tokens[p, s, length[p, s] - 1] = EOS
        score = ((tokens >= 1) & (tokens <= len(PRAISE))).sum(axis=2) - 2.5 + 0.6 * draw.standard_normal(length.shape)
        other = score + draw.standard_normal(length.shape)
        kind = first.partition(":")[0] + ": " if ":" in first else ""
        texts = [f"{kind}{PROMPTS[p % len(PROMPTS)]} {p}" for p in range(num_prompts)]
        ids = [[9 + (p + k) % len(OTHER) for k in range(1 + p % 3)] for p in range(num_prompts)]
        return {
            "prompt/id": np.arange(100, 100 + num_prompts, dtype=np.int64),
            "prompt/text_sha256": [hashlib.sha256(text.encode()).hexdigest() for text in texts],
            "prompt/text": texts,
            "prompt/tokens": np.concatenate(ids).astype(np.int32),
            "prompt/offset": np.cumsum([0] + [len(one) for one in ids]).astype(np.int64),
            "sample/tokens": tokens,
            "sample/length": length,
            "sample/finished": finished,
            "sample/logp_reference": (-2.0 * length).astype(np.float32),
            "reward/main/value": np.round(-np.log1p(np.exp(-score)), 3).astype(np.float32),  # rounded: with ties
            "reward/evaluator/value": (1 / (1 + np.exp(-other))).astype(np.float32),
        }


def write_pool(path: Path, num_prompts: int = 24, m: int = 32, **attributes: Any) -> dict[str, Any]:
    block = World().block(num_prompts, m, 0.25, 1)
    tables = {f"logf/{n}/sorted_reward": np.sort(block[f"reward/{n}/value"], axis=1) for n in ("main", "evaluator")}
    more = {"temperature": 0.7, "max_new_tokens": np.int64(T), "num_samples": np.int64(m), "ties": "uniform",
            "eos_ids": np.array([EOS], np.int64), "reward_output": "log_prob", "reward_round": 1e-3, "seconds": 12.5,
            "content_sha256": "e" * 64}  # fmt: skip
    write_h5(path, provenance("vbon.pool", **(more | attributes)), block | tables)
    return block


def naive_win(rewards: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """[P] by comparing every sample with every pool sample."""
    above = rewards[:, :, None] > pool[:, None, :]
    tied = rewards[:, :, None] == pool[:, None, :]
    return (above + 0.5 * tied).mean(axis=(1, 2))


def write_evaluation(path: Path, step: int, strength: float, pool: dict[str, Any], k: int = 8, seed: int = 2,
                     method: str = "vbon", n: float = 4.0, cost: float = 1.0, **attributes: Any
                     ) -> dict[str, Any]:  # fmt: skip
    """A policy that praises more the greater `strength` (0: the reference), at `cost` times the KL."""
    num_prompts = len(pool["prompt/id"])
    block = World(seed).block(num_prompts, k, 0.25 + 0.22 * strength, 100 + step, pool["prompt/text"][0])
    draw = np.random.default_rng([seed, step])
    block["sample/kl"] = (cost * 0.9 * strength**1.5 * draw.gamma(4, 0.25, (num_prompts, k))).astype(np.float32)
    block["win"] = naive_win(block["reward/main/value"], pool["reward/main/value"])
    points = np.array([1.0, 2, 4, 8, 16])
    for name, values in (("N", points), ("kl", np.log(points) - (points - 1) / points), ("win", points / (points + 1)),
                         ("reward", -1 / points), ("se", 0.01 + 0 * points)):  # fmt: skip
        block[f"bon/{name}"] = values
    more = {"method": method, "N": float(n), "beta": 1 / (n - 1) if n > 1 else 0.0, "training_seed": np.int64(1),
            "evaluation_seed": np.int64(5), "bootstrap_seed": np.int64(7), "temperature": 0.7,
            "checkpoint_sha256": "f" * 64, "checkpoint_step": np.int64(step), "eos_ids": np.array([EOS], np.int64),
            "pool_sha256": "e" * 64}  # fmt: skip
    by_evaluator = naive_win(block["reward/evaluator/value"], pool["reward/evaluator/value"]).mean()
    summary = {"win": block["win"].mean(), "evaluator": np.nan, "policy.evaluator_win": by_evaluator,
               "policy.evaluator_win_se": 0.02, "bon_4.evaluator_win": 0.65,
               "reference.evaluator": pool["reward/evaluator/value"].mean(),
               "bon_4.kl": 0.636, "bon_4.win": 0.8, "bon_4.evaluator": 0.7, "bon_4.evaluator_se": 0.01}  # fmt: skip
    write_h5(path, provenance("vbon.eval", **(more | attributes)), block, summary)
    return block


def metrics_rows(steps: int = 30, ranks: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    rows = []
    for step in range(1, steps + 1):
        x = step / steps
        noise = draw.standard_normal(12)
        values = {
            "reward": -0.9 + 0.5 * x + 0.04 * noise[0], "reward_sd": 0.5, "log_f": -1 + 0.5 * x + 0.05 * noise[1],
            "kl": 0.9 * x**1.5, "kl_to_bon": 1.6 - 1.1 * x + 0.05 * noise[2], "win": 0.5 + 0.2 * x + 0.02 * noise[3],
            "entropy": 3 - 0.6 * x + 0.05 * noise[4], "clip_fraction": 0.05 + 0.01 * noise[5],
            "ratio_error": 1e-6 * np.exp(noise[6]), "ratio_mean": 1 + 1e-3 * noise[7], "floor_share": 0.02 * (1 - x),
            "ceiling_share": 0.04 * x, "length": 9 + x, "finished": 0.75 + 0.1 * x, "distinct_words": 210 - 60 * x,
            "policy_loss": 0.01 * noise[8], "value_loss": None, "grad_norm": 1.2 + 0.2 * noise[9],
            "learning_rate": 3e-4 * min(1, step / 4) * (1 - x), "objective": -0.8 + 0.4 * x, "advantage_sd": 1.0,
        }  # fmt: skip
        time = {"generate": [4.0, 0, 0], "score": [0, 1.1, 0], "prepare": [0, 0, 0.8], "update": [0, 0, 3.2 + 0.1 * x],
                "publish": [0.1, 0, 0.1], "store": [0.02, 0.01, 0.05], "evaluate": [0, 0, 0],
                "idle": [4.2, 7.2, 4.1], "total": [8.4, 8.4, 8.4], "tokens_per_s": [150 + noise[10], 0, 0]}  # fmt: skip
        time = {phase: [v * 1.0 for v in (times * ranks)[:ranks]] for phase, times in time.items()}
        rows.append({"step": step, "episodes": 64 * step, "tokens": 600 * step, **values, "time": time})
    return rows


def few(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The metrics that matter most; every panel less makes the tests faster."""
    return [{name: row[name] for name in ("step", "episodes", "tokens", "reward", "win", "kl", "time")} for row in rows]


def write_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = [name for name in rows[0] if name not in ("step", "episodes", "tokens", "time")]
    data = {name: np.array([row[name] for row in rows], np.int64) for name in ("step", "episodes", "tokens")}
    data |= {name: np.array([row[name] for row in rows], np.float64) for name in names}
    data |= {f"time/{phase}": np.array([row["time"][phase] for row in rows]) for phase in rows[0]["time"]}
    write_h5(folder / "metrics.h5", provenance("vbon.metrics"), data)


def config_text(pool: Path, method: str = "vbon", n: str = "4", seed: int = 1, **changes: str) -> str:
    """`changes`: further or other keys, "section__key" = "value"."""
    sections = {
        "run": {"dir": "runs/one", "seed": str(seed)},
        "prompts": {"train": "data/prompts-train.jsonl", "eval": "data/prompts-eval.jsonl"},
        "train": {"method": method, "layers": '"last 4"', "steps": "30"},
        "vbon": {"N": n, "beta": "null", "objective": "exact", "estimator": "add_one"},
        "sampling": {"temperature": "0.7", "max_new_tokens": "12"},
        "pool": {"path": '""', "eval_path": f'"{pool}"', "samples": "32", "use": "0"},
        "eval": {"every": "10", "bon_n": "[1, 2, 4, 8]"},
    }
    for name, value in changes.items():
        section, key = name.split("__")
        sections.setdefault(section, {})[key] = value
    lines = [
        [f"{section}:", *(f"  {key}: {value}" for key, value in keys.items())] for section, keys in sections.items()
    ]
    return "\n".join(line for section in lines for line in section) + "\n"


def write_run(folder: Path, pool_path: Path, pool: dict[str, Any], method: str = "vbon", n: str = "4", seed: int = 2,
              gain: float = 1.0) -> None:  # fmt: skip
    """A whole finished run with evaluations at steps 0, 10, 20 and 30."""
    write_metrics(folder, metrics_rows(seed=seed))
    (folder / "config.yaml").write_text(config_text(pool_path, method, n, seed))
    for step in (0, 10, 20, 30):
        number = float(n) if n != "null" else 1.0
        path = folder / "eval" / f"step-{step:08d}.h5"
        write_evaluation(path, step, gain * step / 30, pool, seed=seed, method=method, n=number)
    write_tokenizer(folder / "checkpoints" / "step-00000030" / "policy" / "tokenizer.json")
    (folder / "finished").write_text("{}\n")
