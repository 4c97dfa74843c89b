"""Sweeps like those of `vbon sweep`: sweep.json and the runs that it lists, each with metrics and evaluations."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from . import fixtures

# What a method's KL costs it, beside that of vBoN, in the world of the fixtures.
COST = {"vbon": 1.0, "ppo": 1.3, "dpo": 1.2, "ipo": 1.5, "bonbon": 1.7, "bon_sft": 2.5, "bond": 1.1, "jbond": 1.25,
        "jeffreys": 1.15, "regression": 1.05}  # fmt: skip
BY_BETA = {"ppo": "ppo__kl_coef", "dpo": "preference__beta", "ipo": "preference__beta"}


def write_sweep(folder: Path, methods: dict[str, list[float]], seeds: list[int], steps: int = 12, k: int = 8,
                num_prompts: int = 16, **changes: str) -> Path:  # fmt: skip
    """`methods`: the strengths of each, N or beta. All are compared with folder/pool.h5."""
    pool = fixtures.write_pool(folder / "pool.h5", num_prompts=num_prompts)
    fixtures.write_pool(folder / "pool-train.h5", num_prompts=4, content_sha256="8" * 64)
    runs = []
    for method, strengths in methods.items():
        for strength in strengths:
            for seed in seeds:
                name = f"{method}-{strength:g}-s{seed}"
                overrides = write_member(folder / "runs" / name, pool, method, strength, seed, steps, k, **changes)
                runs.append({"name": name, "dir": f"runs/{name}", "seed": seed, "overrides": overrides})
    write_list(folder, runs)
    return folder


def write_list(folder: Path, runs: list[dict[str, Any]]) -> None:
    sweep = {"format": "vbon.sweep", "schema_version": 1, "name": "small", "runs": runs}
    (folder / "sweep.json").write_text(json.dumps(sweep))


def write_member(folder: Path, pool: dict[str, Any], method: str, strength: float, seed: int, steps: int = 12,
                 k: int = 8, gain: float = 1.0, stream: int = 0, **changes: str) -> dict[str, Any]:  # fmt: skip
    """One finished and evaluated run; returns its overrides. `gain`: what it gets for its KL; `stream`: of noise."""
    is_beta = method in BY_BETA
    n = 1 + 1 / strength if is_beta else strength
    key = BY_BETA.get(method, "vbon__N")
    keys = {"pool__path": '"pool-train.h5"', key: f"{strength:g}", **changes}
    config = fixtures.config_text(Path("pool.h5"), method, "null" if is_beta else f"{strength:g}", seed, **keys)
    rows = fixtures.few(fixtures.metrics_rows(steps, seed=seed))
    fixtures.write_metrics(folder, rows)
    (folder / "config.yaml").write_text(config)
    known = {"n": 1.0, "beta": strength} if is_beta else {"n": n}
    step = rows[-1]["step"]
    pull = float(np.log2(n)) / 2
    fixtures.write_evaluation(folder / "eval" / f"final-{step:08d}" / "eval.h5", step, pull, pool, k=k,
                              seed=10 * seed + len(method) + 100 * stream, method=method,
                              cost=COST[method] / gain, **known,
                              training_seed=np.int64(seed), config=config)  # fmt: skip
    fixtures.write_tokenizer(folder / "checkpoints" / f"step-{step:08d}" / "policy" / "tokenizer.json")
    (folder / "finished").write_text("{}\n")
    return {"train.method": method, key.replace("__", "."): strength}


def write_temperatures(folder: Path, methods: dict[str, float], seeds: list[int], temperatures: list[float],
                       num_prompts: int = 16) -> Path:  # fmt: skip
    """A sweep whose runs are evaluated at several temperatures on the prompts of training's kind and on others. Their
    own evaluation is that of temperature 0.7."""
    runs = []
    for method, strength in methods.items():
        for seed in seeds:
            name = f"{method}-s{seed}"
            pools = {kind: fixtures.World().block(num_prompts, 8, 0.25, 1, first)
                     for kind, first in (("id", ""), ("ood", "other: "))}  # fmt: skip
            write_member(folder / "runs" / name, pools["id"], method, strength, seed)
            pull = float(np.log2(1 + 1 / strength if method in BY_BETA else strength)) / 2
            for kind, pool in pools.items():
                for temperature in temperatures:
                    config = fixtures.config_text(Path("x"), method, prompts__eval=f"data/eval-{kind}.jsonl")
                    fixtures.write_evaluation(
                        folder / "runs" / name / "eval" / f"{kind}-{temperature:g}" / "eval.h5", 12,
                        pull * (1.3 - 0.6 * temperature), pool, seed=seed + len(method), method=method,
                        cost=COST[method], temperature=temperature, config=config,
                        training_seed=np.int64(seed), prompts_sha256=kind * 8,
                        **({"n": 1.0, "beta": strength} if method in BY_BETA else {"n": strength}))  # fmt: skip
            runs.append({"name": name, "dir": f"runs/{name}", "seed": seed, "overrides": {"train.method": method}})
    write_list(folder, runs)
    return folder
