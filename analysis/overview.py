"""The head of a report: what was run, what has to be known before the figures are believed, the result in words."""

from typing import Any

import numpy as np

from .config import lookup
from .io import Provenance
from .page import Html, el
from .shown import Shown
from .tables import compared_n, disagreements

NULL_WIN, NULL_KL = 0.03, 1e-3  # a reference evaluated as policy stays within these (and within the noise)
FLOOR_SHARE = 0.05  # of the last quarter's samples: beyond it log F is blunt where it matters
CEILING_SHARE = 0.25
RATIO_ERROR_F32 = 1e-4


def facts(one: Shown) -> list[tuple[str, Any]]:
    """(name, value) of a run for the list in the head."""
    run, config = one.run, one.run.config
    steps = run.metrics.step if run.metrics is not None else np.empty(0)
    found = [
        ("method", _joined(run.method, lookup(config, "vbon.objective") if run.method == "vbon" else None)),
        ("target", _target(one)),
        ("seeds", _seeds(one)),
        ("steps", f"{len(steps)} of {lookup(config, 'train.steps', '?')}" if len(steps) else None),
        ("sampling", sampling(config)),
        ("evaluation", _evaluation(one)),
        ("pool", _pool(one)),
        ("null check", null_check(one)),
        ("made by", versions(run.provenance)),
        ("written", run.provenance.created_utc),
        ("SHA-256", _shas(one)),
    ]
    return [(name, value) for name, value in found if value]


def warnings(one: Shown) -> list[str]:
    """What makes the figures worth less, in words."""
    run = one.run
    found = list(run.notes)
    m = one.view.m if one.view else lookup(run.config, "pool.samples")
    if run.n is not None and m is not None and m < 2 * run.n:
        found.append(
            f"The pool has M = {m:g} samples a prompt, fewer than 2N = {2 * run.n:g}: log F and best-of-N are coarse."
        )
    found += _of_metrics(one)
    forced = [run.provenance.forced, run.final.provenance.forced if run.final else "",
              one.view.pool.provenance.forced if one.view else ""]  # fmt: skip
    found += [f"Mismatches were overridden with --force: {text}" for text in dict.fromkeys(forced) if text]
    if (null := run.null) is not None:
        win, kl = float(null.win.mean()), float(null.kl.mean(dtype=np.float64))
        if abs(win - 0.5) > max(NULL_WIN, 3 * _standard_error(null.win)) or kl > NULL_KL:
            found.append(f"The null check fails: the reference as policy has win rate {win:.3f} and KL {kl:.2g}.")
    if differing := disagreements(one.rows, run.summary):
        found.append("summary.json and the files disagree: " + "; ".join(differing))
    return found


def _of_metrics(one: Shown) -> list[str]:
    metrics = one.run.metrics
    if metrics is None or not len(metrics.step):
        return []
    found = []
    for name, limit, meaning in (
        ("floor_share", FLOOR_SHARE, "below every sample of the pool"),
        ("ceiling_share", CEILING_SHARE, "above every sample of the pool"),
    ):
        share = _mean_of_last_quarter(metrics.values.get(name))
        if share is not None and share > limit:
            found.append(
                f"In the last quarter {share:.0%} of the samples were {meaning}: log F cannot tell them apart."
            )
    errors = metrics.values.get("ratio_error")
    if errors is not None and np.isfinite(errors).any() and one.run.provenance.dtype in ("", "float32", "f32"):
        worst = int(np.nanargmax(errors))
        if errors[worst] > RATIO_ERROR_F32:
            found.append(
                f"Sampler and learner differ: the ratio error was {errors[worst]:.2g} at step {metrics.step[worst]} "
                f"(fp32: at most {RATIO_ERROR_F32:g})."
            )
    return found


def _mean_of_last_quarter(values: np.ndarray | None) -> float | None:
    if values is None:
        return None
    tail = values[-max(1, len(values) // 4) :]
    return float(np.nanmean(tail)) if np.isfinite(tail).any() else None


def verdict(one: Shown) -> str | None:
    """The result in one sentence."""
    policy = one.policy
    if policy is None:
        return None
    kl, win, share = policy.figures["kl"], policy.figures["win"], policy.figures.get("efficiency")
    text = f"One sample wins {win.value:.3f} of the comparisons with the reference at a KL of {kl.value:.2f} nats"
    bon = next((row for row in one.rows if row.kind == "bon"), None)
    if bon is not None and bon.n is not None and {"kl", "win"} <= set(bon.figures):
        of_bon = bon.figures
        text += f"; best of {bon.n:.3g} from the pool wins {of_bon['win'].value:.3f} at {of_bon['kl'].value:.2f}"
    if share is not None:
        text += f". That is {share.value:.0%} of what best-of-N gains at the policy's KL"
    return text + "."


def null_check(one: Shown) -> str | None:
    null = one.run.null
    if null is None:
        return None
    se = _standard_error(null.win)
    kl = max(0.0, float(null.kl.mean(dtype=np.float64)))
    return f"reference as policy: win rate {null.win.mean():.3f} ± {se:.3f}, KL {kl:.2g}"


def _standard_error(values: np.ndarray) -> float:
    """Of the mean; 0 for one value."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part not in (None, ""))


def _target(one: Shown) -> str | None:
    n = one.run.n
    if n is None:
        n_same = compared_n(one.run)
        return None if n_same is None else f"none; compared with best-of-N at its own KL, N = {n_same:.3g}"
    return f"best of {n:.4g}" + (f" (β = {1 / (n - 1):.3g})" if n > 1 else "")


def _seeds(one: Shown) -> str:
    final, seed = one.run.final, lookup(one.run.config, "run.seed", one.run.provenance.seed)
    later = [f"evaluation {final.evaluation_seed}", f"bootstrap {final.bootstrap_seed}"] if final else []
    return _joined(f"training {seed}" if seed is not None else None, *later)


def sampling(config: dict[str, Any]) -> str | None:
    temperature, tokens = lookup(config, "sampling.temperature"), lookup(config, "sampling.max_new_tokens")
    return _joined(f"temperature {temperature}" if temperature is not None else None,
                   f"at most {tokens} new tokens" if tokens is not None else None)  # fmt: skip


def _evaluation(one: Shown) -> str | None:
    final = one.run.final
    if final is None:
        return None
    return f"{len(final.win)} prompts × {final.num_samples} samples, after step {final.step}"


def _pool(one: Shown) -> str | None:
    if one.view is None:
        return None
    distinct = np.mean([len(np.unique(row)) for row in one.view.pool.rewards["main"][one.view.rows, : one.view.m]])
    return f"M = {one.view.m} samples a prompt, {distinct:.1f} distinct rewards among them on average"


def versions(provenance: Provenance) -> str:
    versions = [f"{name} {version.split(',')[0]}" for name, version in sorted(provenance.library_versions.items())]
    threads = f"threads a rank: {provenance.threads_per_rank}" if provenance.threads_per_rank else None
    attempts = f"attempt {provenance.attempt}" if provenance.attempt > 1 else None
    vbon = f"vbon {provenance.vbon_version}" if provenance.vbon_version else None
    return _joined(vbon, *versions, provenance.dtype, provenance.device, threads, attempts)


def _shas(one: Shown) -> Html | None:
    """What the run, its evaluation and its pool were made with, 12 digits each; the whole in a tooltip."""
    found = dict(one.run.provenance.sha256)
    found.pop("content", None)
    if one.run.final is not None:
        found |= {k: v for k, v in one.run.final.provenance.sha256.items() if k != "content"}
    parts = [el("span", f"{name} {sha256[:12]}", cls="sha", title=sha256) for name, sha256 in found.items()]
    return el("span", [[part, " · " if part is not parts[-1] else None] for part in parts]) if parts else None
