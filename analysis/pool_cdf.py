"""What m samples say of F and of log F at one prompt, beside what all M say (paper, Figure 3)."""

from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .io import Pool
from .output import Output
from .plots import INK, legend_below, legend_height, panels, short
from .tabular import Column, Table

FIRST_SIZES = (5, 20, 100, 200)
NEARLY_ALL = 0.75
MAX_COLUMNS = 7  # of the legend
GRID = 600  # points that a curve is drawn by
TITLE_CHARACTERS = 34
ABOUT = (
    "The first m samples of the prompt against all M. F: share of the samples below the reward. log F: the estimator "
    "add_one, log((K + 1)/(m + 1)) with K samples below; its floor is -log(m + 1). Distance: the largest difference of "
    "F. Difference of log F: its mean absolute value at the M samples themselves.",
)


@dataclass
class Chosen:
    kind: str  # adversarial, typical, best; "" where it was asked for by its id
    row: int


def choose(pool: Pool, rewards: np.ndarray, ids: list[int] | None) -> list[Chosen]:
    """The prompts of these ids; none: the one of lowest, of middle and of highest mean reward [P, M]."""
    if ids is not None:
        return [Chosen("", row) for row in pool.rows_of(ids)]
    order = np.argsort(rewards.mean(axis=1), kind="stable").tolist()
    places = {"adversarial": order[0], "typical": order[(len(order) - 1) // 2], "best": order[-1]}
    found = {row: kind for kind, row in reversed(places.items())}  # of fewer than three prompts, each once
    return [Chosen(kind, row) for kind, row in places.items() if found[row] == kind]


def default_sizes(m: int) -> list[int]:
    """5, 20, 100, 200, then doubling, as long as that is well below M; M last."""
    sizes = list(FIRST_SIZES)
    while sizes[-1] < m:
        sizes.append(2 * sizes[-1])
    return [*(size for size in sizes if size < NEARLY_ALL * m), m]


def f_strict(samples: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Share of the samples below each reward."""
    return np.searchsorted(np.sort(samples), at, "left") / len(samples)


def log_f(samples: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The estimator add_one: finite everywhere."""
    return np.log((np.searchsorted(np.sort(samples), at, "left") + 1) / (len(samples) + 1))


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference of the two estimates of F; just above and just below every sample."""
    both = np.concatenate([first, second])
    ends = [
        np.searchsorted(np.sort(one), both, side) / len(one) for side in ("left", "right") for one in (first, second)
    ]
    return float(max(np.abs(ends[0] - ends[1]).max(), np.abs(ends[2] - ends[3]).max()))


def table(pool: Pool, rewards: np.ndarray, chosen: list[Chosen], sizes: list[int]) -> Table:
    rows: list[list] = []
    for one in chosen:
        samples = rewards[one.row]
        for m in sizes:
            change = np.abs(log_f(samples[:m], samples) - log_f(samples, samples)).mean()
            rows.append([int(pool.prompt_id[one.row]), one.kind, float(samples.mean()), m,
                         distance(samples[:m], samples), float(change), -float(np.log(m + 1)),
                         pool.prompt_text[one.row]])  # fmt: skip
    columns = [Column("prompt_id", "prompt"), Column("kind", "kind"), Column("mean_reward", "mean reward"),
               Column("m", "m"), Column("distance", "distance of F"), Column("log_f_change", "difference of log F"),
               Column("floor", "floor of log F"), Column("text", "text")]  # fmt: skip
    return Table(columns, rows, "Estimates of F by number of samples", list(ABOUT))


def save_picture(pool: Pool, rewards: np.ndarray, chosen: list[Chosen], sizes: list[int], output: Output) -> None:
    """A column a prompt: F above, log F below."""
    columns = len(sizes) if len(sizes) <= MAX_COLUMNS else -(-len(sizes) // 2)
    size = max(4.6, 2.5 * len(chosen)), 4.3 + legend_height(len(sizes), columns)
    with panels(*size, 2, len(chosen), sharex="col", sharey="row") as (made, axes):
        for at, one in enumerate(chosen):
            samples = rewards[one.row]
            _draw(axes[at], samples, sizes, log=False)
            _draw(axes[at + len(chosen)], samples, sizes, log=True)
            name = f"{one.kind}: prompt {pool.prompt_id[one.row]}".removeprefix(": ")
            axes[at].set_title(f"{name}\n", pad=4)
            text = " ".join(pool.prompt_text[one.row].split())
            axes[at].annotate(f"“{short(text, TITLE_CHARACTERS)}”", (0, 1), (0, 5), xycoords="axes fraction",
                              textcoords="offset points", fontsize=7.5, color="#555555")  # fmt: skip
            axes[at + len(chosen)].set_xlabel("reward")
            axes[at + len(chosen)].xaxis.set_major_locator(MaxNLocator(4))
        axes[0].set_ylabel("F")
        axes[len(chosen)].set_ylabel("log F, nats")
        legend_below(made, *axes[0].get_legend_handles_labels(), columns)
        output.figure("cdf", made)


def _draw(axes: Axes, samples: np.ndarray, sizes: list[int], log: bool) -> None:
    """Few samples light and thin, many dark; all of them black."""
    grid = np.linspace(samples.min(), samples.max(), GRID)
    colours = matplotlib.colormaps["viridis_r"](np.linspace(0.08, 0.95, len(sizes)))
    for at, m in enumerate(sizes):
        is_all = m == len(samples)
        values = (log_f if log else f_strict)(samples[:m], grid)
        look = {"color": INK if is_all else colours[at], "linewidth": 1.7 if is_all else 1.3}
        axes.plot(grid, values, drawstyle="steps-post", zorder=3 if is_all else 4 - 0.1 * at, **look,
                  label=f"all {m}" if is_all else f"m = {m}")  # fmt: skip
