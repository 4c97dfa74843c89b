"""The table of a report: reference, policy, best-of-N from the pool and in closed form, as figures with errors."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import stats
from .config import lookup
from .io import Evaluation, Pool
from .runs import Run
from .stats import Figure

COLUMNS = ("kl", "win", "efficiency", "reward", "evaluator", "length", "finished")
AGREE = 1e-6  # means of the same float64 numbers in another order


@dataclass
class Row:
    kind: str  # reference, policy, bon, bon_analytic: the names of summary.json
    n: float | None = None
    figures: dict[str, Figure] = field(default_factory=dict)  # by COLUMNS; missing: not measured


@dataclass
class PoolView:
    """The pool's rows of an evaluation's prompts, in its order, with the samples that were compared with."""

    pool: Pool
    rows: np.ndarray  # int64 [P]
    m: int

    def reward(self, name: str = "main") -> np.ndarray | None:
        """float64 [P, M]"""
        values = self.pool.rewards.get(name)
        return None if values is None else values[self.rows, : self.m].astype(np.float64)

    def columns(self) -> dict[str, np.ndarray]:
        """[P, M] of each column that a pool has."""
        found = {
            "reward": self.reward(),
            "evaluator": self.reward("evaluator"),
            "length": self.pool.length[self.rows, : self.m].astype(np.float64),
            "finished": self.pool.finished[self.rows, : self.m].astype(np.float64),
        }
        return {name: values for name, values in found.items() if values is not None}


def view_of(run: Run) -> PoolView | None:
    """The run's pool as its last evaluation used it; None, with a note in the run, where the two do not fit."""
    if run.pool is None or run.final is None:
        return None
    at = {key: row for row, key in enumerate(zip(run.pool.prompt_sha256, run.pool.prompt_id.tolist()))}
    of_text = {sha256: row for row, sha256 in reversed(list(enumerate(run.pool.prompt_sha256)))}
    keys = zip(run.final.prompt_sha256, run.final.prompt_id.tolist())
    rows = [at.get(key, of_text.get(key[0])) for key in keys]
    if None in rows:
        run.notes.append(f"The pool lacks {rows.count(None)} of the {len(rows)} evaluated prompts; it is not used.")
        return None
    use = int(lookup(run.config, "pool.use", 0) or 0)
    views = [PoolView(run.pool, np.array(rows), m) for m in (run.pool.num_samples, use) if m > 0]
    for view in views:
        table = view.reward()
        assert table is not None
        if np.allclose(stats.win_rates(run.final.rewards["main"], table), run.final.win, rtol=0, atol=AGREE):
            return view
    run.notes.append("The win rates in the evaluation are not those against this pool; was it made with another one?")
    return views[0]


def policy_row(evaluation: Evaluation) -> Row:
    seed = evaluation.bootstrap_seed
    kl = evaluation.kl.mean(axis=1, dtype=np.float64)
    samples = {"reward": "main", "evaluator": "evaluator"}
    columns = {name: evaluation.rewards[key] for name, key in samples.items() if key in evaluation.rewards}
    columns |= {"length": evaluation.length, "finished": evaluation.finished}
    figures = {"kl": stats.figure(kl, seed), "win": stats.figure(evaluation.win, seed)}
    figures |= {name: stats.figure(values.mean(axis=1, dtype=np.float64), seed) for name, values in columns.items()}
    if (share := stats.efficiency_figure(evaluation.win, kl, seed)) is not None:
        figures["efficiency"] = share
    if np.isfinite(by_evaluator := evaluation.summary.get("policy.evaluator_win", np.nan)):
        figures["evaluator_win"] = Figure(by_evaluator, evaluation.summary.get("policy.evaluator_win_se"))
    return Row("policy", None, figures)


def reference_row(view: PoolView, seed: int) -> Row:
    figures = {name: stats.figure(values.mean(axis=1), seed) for name, values in view.columns().items()}
    return Row("reference", None, {"kl": Figure(0.0), "win": Figure(0.5)} | figures)


def bon_row(view: PoolView, n: float, seed: int) -> Row:
    rewards = view.reward()
    assert rewards is not None
    weights = stats.bon_weights(rewards, n)
    kl, win = stats.bon_kl_of_pool(rewards, n), stats.bon_win_of_pool(rewards, n)
    figures = {"kl": stats.figure(kl, seed), "win": stats.figure(win, seed)}
    if (share := stats.efficiency_figure(win, kl, seed)) is not None:
        figures["efficiency"] = share
    figures |= {name: stats.figure((weights * values).sum(axis=1), seed) for name, values in view.columns().items()}
    return Row("bon", n, figures)


def analytic_row(n: float) -> Row:
    figures = {"kl": Figure(float(stats.bon_kl(n))), "win": Figure(float(stats.bon_win(n)))}
    return Row("bon_analytic", n, figures | ({"efficiency": Figure(1.0)} if n > 1 else {}))


def compared_n(run: Run) -> float | None:
    """The N whose BoN stands beside the run: its target, or the one with the policy's own KL."""
    if run.n is not None or run.final is None:
        return run.n
    kl = float(run.final.kl.mean(dtype=np.float64))
    return float(stats.n_of_kl(kl)) if kl >= stats.MIN_KL else None


def rows_of(run: Run, view: PoolView | None) -> list[Row]:
    """Reference, policy, BoN, analytic; what the files cannot tell is taken from summary.json or left out."""
    if run.final is None:
        return [_from_summary(row) for row in run.summary.get("rows", [])]
    seed, n = run.final.bootstrap_seed, compared_n(run)
    rows = [policy_row(run.final)]
    if view is not None:
        rows.insert(0, reference_row(view, seed))
        if n is not None and view.m >= 2:
            rows.append(bon_row(view, n, seed))
    else:
        told = [_from_summary(row) for row in run.summary.get("rows", [])]
        rows = [r for r in told if r.kind == "reference"] + rows + [r for r in told if r.kind == "bon" and r.n == n]
    return rows + ([analytic_row(n)] if n is not None else [])


def disagreements(rows: list[Row], summary: dict[str, Any]) -> list[str]:
    """Figures that summary.json gives otherwise than the files themselves."""
    found = []
    share = {"efficiency": summary.get("efficiency")}
    for told in (
        _from_summary(row | (share if row.get("name") == "policy" else {})) for row in summary.get("rows", [])
    ):
        same = [row for row in rows if row.kind == told.kind and (told.n is None or row.n in (None, told.n))]
        for name, mine in same[0].figures.items() if same else []:
            other = told.figures.get(name)
            if other is not None and abs(other.value - mine.value) > 1e-4 * max(1.0, abs(mine.value)):
                found.append(f"{told.kind} {name}: {other.value:.5g} in summary.json, {mine.value:.5g} from the files")
    return found


def _from_summary(row: dict[str, Any]) -> Row:
    def number(name: str) -> float | None:
        value = row.get(name)
        plain = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
        return float(value) if plain else None

    figures = {
        name: Figure(value, number(f"{name}_se"), number(f"{name}_low"), number(f"{name}_high"))
        for name in COLUMNS
        if (value := number(name)) is not None
    }
    return Row(str(row.get("name", "")), number("n"), figures)
