"""How far F from m samples is from F of many: two-sample Kolmogorov-Smirnov tests prompt by prompt (paper, Table 1)."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from .errors import InputError
from .output import Output
from .plots import COLOURS, GREY, figure, legend_below
from .stats import LEVEL, Figure
from .tabular import Column, Table

ALPHA = 0.05
PAPER_AGAINST, PAPER_SIZES = 600, (5, 20, 100, 200, 250)
EXACT_UP_TO = 10_000  # samples: beyond it SciPy's exact sums take minutes
LOOKS = {"nested": ("o", "-", -0.05), "disjoint": ("D", (0, (4, 2)), 0.05)}  # marker, dash, shift to the side
ENDS = ("value", "low", "high")
ABOUT = (
    "Two-sample Kolmogorov-Smirnov test of each prompt's first m rewards against {against} of its rewards, rejected "
    "where p < 0.05; statistic and p are means over the rejected prompts. Shares with 95% Wilson intervals.",
    "Nested: the m samples are among the {against}. The statistic is then (1 - m/{against}) times that against the "
    "other {against} - m, so that fewer than 5% are rejected by construction, and ever fewer as m grows: a small share "
    "does not show that m samples are enough. Disjoint: the {against} samples after the first m; up to 5% are rejected "
    "by chance alone, whatever m is.",
    "p-values are exact for continuous rewards (SciPy's ks_2samp, method exact; asymptotic ones are off for m = 5). "
    "Under ties they are too high, so the test rejects too few; tied pairs of samples of one prompt: {ties}.",
    "The test hardly sees the tail F -> 1, which (N-1) log F amplifies: 'analysis cdf' shows log F itself.",
)


@dataclass
class Result:
    m: int
    kind: str  # nested, disjoint
    statistic: np.ndarray  # [P]
    p: np.ndarray  # [P]

    @property
    def rejected(self) -> np.ndarray:
        return self.p < ALPHA


def sizes_and_against(m: int, sizes: list[int] | None, against: int) -> tuple[list[int], int]:
    """Of a pool of m samples a prompt; InputError where it has too few. `against` 0: all of them."""
    against = against or m
    if against > m:
        raise InputError(
            f"the pool has {m} samples a prompt, fewer than --against {against}: draw more (pool.samples), or compare "
            f"with all that there are: --against all"
        )
    if sizes and sizes[-1] >= against:
        raise InputError(f"--sizes {sizes[-1]}: a subset has to be smaller than --against {against}")
    found = sizes or [size for size in PAPER_SIZES if size < against]
    if not found:
        raise InputError(
            f"--against {against} is too few for subsets of {PAPER_SIZES[0]} samples; name others: --sizes"
        )
    return found, against


def run_tests(rewards: np.ndarray, sizes: list[int], against: int) -> list[Result]:
    """rewards [P, M]; by size, nested and then, where there are samples enough, disjoint."""
    found = []
    for m in sizes:
        for kind, start in (("nested", 0), ("disjoint", m)):
            if start + against <= rewards.shape[1]:
                found.append(Result(m, kind, *_test(rewards[:, :m], rewards[:, start : start + against])))
    return found


def _test(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Statistic and p of each row. p depends on the statistic alone, which has few values: each is computed once."""
    m, against = first.shape[1], second.shape[1]
    statistic = np.array([_distance(one, other) for one, other in zip(np.sort(first), np.sort(second))])
    steps = np.round(statistic * m * against).astype(np.int64)  # a whole number
    _, examples, which = np.unique(steps, return_index=True, return_inverse=True)
    method = "exact" if max(m, against) <= EXACT_UP_TO else "asymp"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # p near 1e-16, where SciPy changes to the asymptotic one
        p = np.array([scipy_stats.ks_2samp(first[at], second[at], method=method).pvalue for at in examples])
    return statistic, p[which]


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference of two empirical distributions; both ascending."""
    both = np.concatenate([first, second])
    shares = (np.searchsorted(one, both, "right") / len(one) for one in (first, second))
    return float(np.max(np.abs(np.subtract(*shares))))


def tie_share(rewards: np.ndarray) -> float:
    """Of the pairs of two samples of one prompt, those with one reward."""
    m = rewards.shape[1]
    tied = sum(int((count * (count - 1)).sum()) for row in rewards for count in [np.unique(row, return_counts=True)[1]])
    return tied / (len(rewards) * m * (m - 1)) if m > 1 else 0.0


def rejection(result: Result) -> Figure:
    """Share of the prompts with a Wilson interval."""
    count, total = int(result.rejected.sum()), len(result.p)
    low, high = scipy_stats.binomtest(count, total).proportion_ci(LEVEL, method="wilson")
    return Figure(count / total, float(np.sqrt(count / total * (1 - count / total) / total)), float(low), float(high))


def table(results: list[Result], against: int, ties: float) -> Table:
    columns = [Column("m", "m"), Column("subset", "subset"), Column("prompts", "prompts"),
               Column("rejected", "rejected"), Column("share", "share rejected", 2, percent=True),
               Column("statistic", "mean statistic, rejected", 3), Column("p", "mean p, rejected", 3),
               Column("statistic_all", "mean statistic, all", 3)]  # fmt: skip
    rows = [[one.m, one.kind, len(one.p), int(one.rejected.sum()), rejection(one), *_means(one),
             float(one.statistic.mean())] for one in results]  # fmt: skip
    notes = [note.format(against=against, ties="none" if ties == 0 else f"{100 * ties:.2g}%") for note in ABOUT]
    return Table(columns, rows, f"F from m samples against F from {against}", notes)


def _means(result: Result) -> tuple[float | None, float | None]:
    if not result.rejected.any():
        return None, None
    return float(result.statistic[result.rejected].mean()), float(result.p[result.rejected].mean())


def save_picture(results: list[Result], against: int, output: Output) -> None:
    """Share rejected by m, nested and disjoint beside each other."""
    sizes = sorted({one.m for one in results})
    with figure(4.6, 3.0) as (made, axes):
        for (kind, (marker, dash, shift)), colour in zip(LOOKS.items(), COLOURS):
            mine = [one for one in results if one.kind == kind]
            if mine:
                shares = [rejection(one) for one in mine]
                value, low, high = (100 * np.array([getattr(one, end) for one in shares]) for end in ENDS)
                look = {"color": colour, "marker": marker, "linestyle": dash, "markersize": 5, "capsize": 2}
                place = [sizes.index(one.m) + shift for one in mine]
                axes.errorbar(place, value, [value - low, high - value], linewidth=1.3, label=kind, **look)
        look = {"color": GREY, "linewidth": 0.9, "linestyle": (0, (2, 3))}
        axes.axhline(100 * ALPHA, **look, label="5%: chance, disjoint")
        axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("samples m")
        axes.set_ylabel(f"prompts rejected against {against}, %")
        legend_below(made, *axes.get_legend_handles_labels(), 3)
        output.figure("ks", made)
