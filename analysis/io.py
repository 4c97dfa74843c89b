"""The files of vbon as plain records: pool.h5, eval.h5, metrics.jsonl and metrics.h5, summary.json, config.yaml.

Letters: P prompts, M or K samples a prompt, T new tokens at most, S steps, R ranks. What a reader returns has been
checked against the schema; an InputError names the file otherwise. Tokens can be large and are read on demand.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .config import parse_config
from .errors import InputError
from .h5 import ANY, H5Source, open_h5

SHAS = ("reference", "tokenizer", "reward", "evaluator", "prompts", "pool", "checkpoint", "content")
CURVE = ("N", "kl", "win", "reward", "se")  # of best-of-N
MAX_TEXT_BYTES = 64 << 20
KL_SLACK = 1e-3  # a sum of float32 values that are never negative


@dataclass
class Provenance:
    """The root attributes that every HDF5 file carries."""

    created_utc: str = ""
    vbon_version: str = ""
    config: str = ""
    seed: int | None = None
    attempt: int = 1
    dtype: str = ""
    device: str = ""
    threads_per_rank: int | None = None
    library_versions: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)  # by SHAS, where they apply
    forced: str = ""  # mismatches that --force overrode


@dataclass
class Block:
    """Prompts with their samples, as pools and evaluations keep them."""

    path: Path
    provenance: Provenance
    prompt_id: np.ndarray  # int64 [P]
    prompt_text: list[str]  # [P]
    prompt_sha256: list[str]  # [P]
    length: np.ndarray  # int32 [P, M]
    finished: np.ndarray  # uint8 [P, M]
    rewards: dict[str, np.ndarray]  # "main", "evaluator" -> float32 [P, M]
    format: str

    @property
    def num_samples(self) -> int:
        return self.length.shape[1]

    def rows_of(self, ids: list[int]) -> list[int]:
        """Of the prompts with these ids, in their order; InputError where one is not there."""
        at = {number: row for row, number in reversed(list(enumerate(self.prompt_id.tolist())))}
        if missing := [str(number) for number in ids if number not in at]:
            raise InputError(f"'{self.path}' has no prompt {', '.join(missing)} (its ids: {min(at)} to {max(at)})")
        return [at[number] for number in ids]

    def tokens(self, rows: list[int]) -> np.ndarray:
        """int32 [len(rows), M, T], -1 after the end; `rows` ascending."""
        with open_h5(self.path, self.format) as source:
            return source.array("sample/tokens", "int32", (len(self.prompt_id), self.num_samples, ANY), rows)


@dataclass
class Pool(Block):
    temperature: float
    max_new_tokens: int
    seconds: float


@dataclass(frozen=True)
class PoolHead:
    path: Path
    prompts: int
    num_samples: int
    seconds: float  # that vbon pool took; 0: not known
    sha256: str


@dataclass
class Evaluation(Block):
    method: str
    n: float
    beta: float
    training_seed: int
    evaluation_seed: int
    bootstrap_seed: int
    temperature: float
    step: int
    kl: np.ndarray  # float32 [P, K] exact, summed over the response, nats
    win: np.ndarray  # float64 [P] against the pool, ties half
    bon: dict[str, np.ndarray]  # N, kl, win, reward, se -> float64 [C]
    summary: dict[str, float]  # figures of the table that vbon eval printed

    @property
    def setting(self) -> tuple[tuple[str, ...], float]:
        """What has to agree before two evaluations may stand on one axis: the prompts and the temperature."""
        return tuple(self.prompt_sha256), self.temperature


@dataclass
class Metrics:
    step: np.ndarray  # int64 [S]
    episodes: np.ndarray  # int64 [S]
    tokens: np.ndarray  # int64 [S]
    values: dict[str, np.ndarray]  # metric -> float64 [S], NaN: not measured
    time: dict[str, np.ndarray]  # phase -> float64 [S, R] seconds, NaN: no such rank


def read_pool(path: Path) -> Pool:
    with open_h5(path, "vbon.pool") as source:
        block = _read_block(source, "vbon.pool")
        for name, values in block["rewards"].items():
            table = source.array(f"logf/{name}/sorted_reward", "float32", values.shape)
            if not np.array_equal(table, np.sort(values, axis=1)):
                raise InputError(f"'{path}': logf/{name}/sorted_reward is not reward/{name}/value in ascending order")
        return Pool(
            **block,
            temperature=source.number("temperature"),
            max_new_tokens=source.integer("max_new_tokens"),
            seconds=source.number("seconds", 0.0),
        )


def read_pool_head(path: Path) -> PoolHead:
    """What a pool's attributes say, without its samples."""
    with open_h5(path, "vbon.pool") as source:
        prompts = len(source.array("prompt/id", "int64", (ANY,)))
        sha256 = source.text("content_sha256", "")
        return PoolHead(path, prompts, source.integer("num_samples"), source.number("seconds", 0.0), sha256)


def read_evaluation(path: Path) -> Evaluation:
    with open_h5(path, "vbon.eval") as source:
        block = _read_block(source, "vbon.eval")
        kl = source.array("sample/kl", "float32", block["length"].shape)
        win = source.array("win", "float64", (len(block["prompt_id"]),))
        if not (np.isfinite(kl).all() and (kl >= -KL_SLACK).all()):
            raise InputError(f"'{path}': a KL is negative or not finite")
        if not ((win >= 0) & (win <= 1)).all():
            raise InputError(f"'{path}': a win rate is not in [0, 1]")
        summary = source.attribute_names("summary") if source.is_group("summary") else []
        return Evaluation(
            **block,
            method=source.text("method"),
            n=source.number("N"),
            beta=source.number("beta"),
            training_seed=source.integer("training_seed"),
            evaluation_seed=source.integer("evaluation_seed"),
            bootstrap_seed=source.integer("bootstrap_seed"),
            temperature=source.number("temperature"),
            step=source.integer("checkpoint_step"),
            kl=kl,
            win=win,
            bon=_read_curve(source),
            summary={name: source.number(name, group="summary") for name in summary},
        )


def _read_curve(source: H5Source) -> dict[str, np.ndarray]:
    """{}: the evaluation has none."""
    if not source.is_group("bon"):
        return {}
    n = source.array("bon/N", "float64", (ANY,))
    if not (n >= 1).all():
        raise InputError(f"'{source.path}': bon/N holds an N < 1")
    return {name: source.array(f"bon/{name}", "float64", n.shape) for name in CURVE}


def _read_block(source: H5Source, kind: str) -> dict[str, Any]:
    ids = source.array("prompt/id", "int64", (ANY,))
    tokens = source.dataset("sample/tokens", (len(ids), ANY, ANY))
    _, m, t = tokens.shape
    if 0 in tokens.shape:
        raise InputError(f"'{source.path}' has no samples")
    length = source.array("sample/length", "int32", (len(ids), m))
    if not ((length >= 1) & (length <= t)).all():
        raise InputError(f"'{source.path}': a sample's length is not in [1, {t}]")
    rewards = {n: source.array(f"reward/{n}/value", "float32", (len(ids), m)) for n in source.members("reward")}
    if "main" not in rewards:
        raise InputError(f"'{source.path}' has no reward 'main'")
    for name, values in rewards.items():
        if not np.isfinite(values).all():
            raise InputError(f"'{source.path}': a value of reward '{name}' is not finite")
    return {
        "path": source.path,
        "provenance": read_provenance(source),
        "prompt_id": ids,
        "prompt_text": source.texts("prompt/text", len(ids)),
        "prompt_sha256": source.texts("prompt/text_sha256", len(ids)),
        "length": length,
        "finished": source.array("sample/finished", "uint8", (len(ids), m)),
        "rewards": rewards,
        "format": kind,
    }


def read_provenance(source: H5Source) -> Provenance:
    versions = parse_json(source.text("library_versions", "{}"), f"'{source.path}': attribute 'library_versions'")
    return Provenance(
        created_utc=source.text("created_utc", ""),
        vbon_version=source.text("vbon_version", ""),
        config=source.text("config", ""),
        seed=source.integer("seed") if source.attribute("seed", None) is not None else None,
        attempt=source.integer("attempt", 1),
        dtype=source.text("dtype", ""),
        device=source.text("device", ""),
        threads_per_rank=source.integer("threads_per_rank") if source.attribute("threads_per_rank", None) else None,
        library_versions={str(name): str(version) for name, version in versions.items()},
        sha256={name: text for name in SHAS if (text := source.text(f"{name}_sha256", ""))},
        forced=source.text("forced", ""),
    )


def read_config(path: Path) -> dict[str, Any]:
    return parse_config(read_text(path), f"'{path}'")


def read_summary(path: Path) -> dict[str, Any]:
    """summary.json of `vbon eval`; every figure in it is optional."""
    summary = parse_json(read_text(path), f"'{path}'")
    if summary.get("format") != "vbon.summary" or not isinstance(summary.get("rows", []), list):
        raise InputError(f"'{path}' is no summary of vbon eval (format 'vbon.summary')")
    if not all(isinstance(row, dict) for row in summary.get("rows", [])):
        raise InputError(f"'{path}': a row is no object")
    return summary


def read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise InputError(f"'{path}' is larger than {MAX_TEXT_BYTES >> 20} MiB; it is no file of vbon")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as fault:
        raise InputError(f"'{path}' is not UTF-8") from fault
    except OSError as fault:
        raise InputError(f"'{path}' cannot be read: {fault.strerror}") from fault


def parse_json(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{where} is no valid JSON") from fault
    if not isinstance(value, dict):
        raise InputError(f"{where} is no JSON object")
    return value
