"""Statistics of an evaluation: means over prompts with standard errors and bootstrap intervals, Best-of-N in closed
form and from a pool. Everything is in nats and float64; [P, M] means prompts by samples.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import lambertw
from scipy.stats import t as student

LEVEL = 0.95
RESAMPLES = 2000
BRANCH = 1e-12  # KL that is none: here the Lambert function begins, and N is 1
MIN_KL = 1e-3  # below it a policy is the reference, and "win rate at this KL" has no meaning


@dataclass(frozen=True)
class Figure:
    """A mean over prompts. `se` and the interval are None where the figure is exact by definition."""

    value: float
    se: float | None = None
    low: float | None = None
    high: float | None = None


def bon_kl(n: np.ndarray | float) -> np.ndarray | float:
    """KL(bon || ref) = log N - (N-1)/N of continuous rewards; an upper bound under ties."""
    return np.log(n) - (n - 1) / n


def bon_win(n: np.ndarray | float) -> np.ndarray | float:
    """Win rate N/(N+1) against one reference sample; an upper bound under ties."""
    return n / (n + 1)


def n_of_kl(kl: np.ndarray | float) -> np.ndarray | float:
    """The real N >= 1 whose BoN has this KL. u = 1/N solves u - log u - 1 = KL, that is -u e^-u = -e^-(1+KL)."""
    at_branch = np.asarray(kl) < BRANCH
    return np.where(at_branch, 1.0, 1 / -np.real(lambertw(-np.exp(-1 - np.where(at_branch, 1.0, kl)))))[()]


def win_at_kl(kl: np.ndarray | float) -> np.ndarray | float:
    return bon_win(n_of_kl(kl))


def efficiency(win: np.ndarray | float, kl: np.ndarray | float) -> np.ndarray | float:
    """(win - 1/2) over that of BoN at the same KL; NaN where the KL is too small to tell."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(kl) < MIN_KL, np.nan, (win - 0.5) / (win_at_kl(kl) - 0.5))


def figure(per_prompt: np.ndarray, seed: int) -> Figure:
    """Mean of [P] values with its standard error and 95% percentile bootstrap interval over prompts."""
    se = float(np.std(per_prompt, ddof=1) / np.sqrt(len(per_prompt))) if len(per_prompt) > 1 else None
    low, high = interval(resampled_means(per_prompt, seed)) if se is not None else (None, None)
    return Figure(float(np.mean(per_prompt)), se, low, high)


def efficiency_figure(win: np.ndarray, kl: np.ndarray, seed: int) -> Figure | None:
    """Efficiency of [P] win rates and KLs; its interval draws the same prompts for both. None: KL too small."""
    value = float(efficiency(np.mean(win), np.mean(kl)))
    if np.isnan(value):
        return None
    drawn = efficiency(resampled_means(win, seed), resampled_means(kl, seed))
    if len(win) < 2 or np.isnan(drawn).any():
        return Figure(value)
    return Figure(value, float(np.std(drawn, ddof=1)), *interval(drawn))


def over_seeds(values: np.ndarray) -> Figure:
    """Mean of one value a seed, with Student's 95% interval: wide for two or three seeds, as it has to be."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return Figure(float(values.mean()))
    se = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    reach = float(student.ppf((1 + LEVEL) / 2, len(values) - 1)) * se
    return Figure(float(values.mean()), se, float(values.mean()) - reach, float(values.mean()) + reach)


def difference_figure(first: np.ndarray, second: np.ndarray, seed: int) -> Figure:
    """Second minus first of the same prompts [P], paired: prompts are resampled, not the two sides by themselves."""
    return figure(np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64), seed)


def efficiency_difference(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray],
                          seed: int) -> Figure | None:  # fmt: skip
    """Of two (win, kl) [P] over the same prompts, paired; None where a KL is too small to tell."""
    values = [float(efficiency(win.mean(), kl.mean())) for win, kl in (first, second)]
    if np.isnan(values).any():
        return None
    drawn = [efficiency(resampled_means(win, seed), resampled_means(kl, seed)) for win, kl in (first, second)]
    change = np.asarray(drawn[1]) - np.asarray(drawn[0])
    if len(first[0]) < 2 or np.isnan(change).any():
        return Figure(values[1] - values[0])
    return Figure(values[1] - values[0], float(np.std(change, ddof=1)), *interval(change))


def resampled_means(per_prompt: np.ndarray, seed: int) -> np.ndarray:
    """[RESAMPLES] means of prompts drawn with replacement; equal seeds draw equal prompts."""
    return _draws(len(per_prompt), seed) @ np.asarray(per_prompt, dtype=np.float64) / len(per_prompt)


@lru_cache(maxsize=2)  # 8 bytes a prompt and resample each
def _draws(num_prompts: int, seed: int) -> np.ndarray:
    """[RESAMPLES, P] how often each prompt is drawn."""
    generator = np.random.default_rng(abs(seed))
    share = np.full(num_prompts, 1 / num_prompts)
    return generator.multinomial(num_prompts, share, size=RESAMPLES).astype(np.float64)


def interval(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def win_rates(rewards: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """[P] mean over K samples of the share of the prompt's M pool rewards below, ties half."""
    below, up_to = _ranks(rewards, np.sort(pool, axis=1))
    return np.mean((below + up_to) / 2, axis=1) / pool.shape[1]


def bon_weights(rewards: np.ndarray, n: float) -> np.ndarray:
    """[P, M] probability of each pool sample to be the best of N; tied samples share.

    Integer N <= M: over all subsets of N, C(i-1,N-1)/C(M,N) of the i-th lowest. Else (i/M)^N - ((i-1)/M)^N.
    """
    below, up_to = _ranks(rewards, np.sort(rewards, axis=1))
    shares = shares_below(rewards.shape[1], n)
    return (shares[up_to] - shares[below]) / (up_to - below)


def bon_win_of_pool(rewards: np.ndarray, n: float) -> np.ndarray:
    """[P] win rate of the best of N against a pool sample outside of the subset, ties half (M >= 2).

    The opponent is drawn first and N of the other M-1 then: all of them lie below it, or none above it.
    """
    below, up_to = _ranks(rewards, np.sort(rewards, axis=1))
    shares = shares_below(rewards.shape[1] - 1, n)
    return np.mean(1 - (shares[below] + shares[up_to - 1]) / 2, axis=1)


def bon_kl_of_pool(rewards: np.ndarray, n: float) -> np.ndarray:
    """[P] KL(bon || ref) of the pool's own quantiles, ties included; at most log M."""
    m = rewards.shape[1]
    below, up_to = _ranks(rewards, np.sort(rewards, axis=1))
    mass = (up_to / m) ** n - (below / m) ** n
    return np.mean(
        mass * m / (up_to - below) * np.log(mass * m / (up_to - below), where=mass > 0, out=mass * 0), axis=1
    )


def shares_below(m: int, n: float) -> np.ndarray:
    """[m+1] P(all of N lie among the k lowest of m): without replacement for integer N <= m, with it else."""
    k = np.arange(m + 1, dtype=np.float64)
    if n != round(n) or n > m:
        return (k / max(m, 1)) ** n
    shares = np.ones(m + 1)
    for at in range(m, 0, -1):  # C(k-1,N) / C(k,N) = (k-N)/k
        shares[at - 1] = shares[at] * max(0.0, at - n) / at
    return shares


def _ranks(rewards: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of the prompt's table (ascending) are < and <= each reward; both [P, K]."""
    rows = list(zip(table, rewards))
    below = np.stack([np.searchsorted(row, values, "left") for row, values in rows])
    return below, np.stack([np.searchsorted(row, values, "right") for row, values in rows])
