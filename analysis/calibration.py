"""How well the amortised F holds on prompts that it has not seen (`vbon amortise`): the probability integral transform,
uniform where F is right, and the error of F from few samples with the head as a prior."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .errors import InputError
from .io import parse_json, read_text
from .output import Output
from .plots import GREY, INK, look_of, panels, short_number
from .tabular import Column, Table

WIDTH, HEIGHT = 7.6, 3.3
Z95 = 1.96
COUNTS, HEAD = 0.0, 1e6  # weights of the head that stand for nothing and for everything
ABOUT = (
    "Transform: F at each reward of the evaluation pool; uniform, the broken line (95% of bins within the band, were "
    "samples independent), where F is right. One for all: the same mixture for every prompt.",
    "Error: root mean square of F from the first m samples of a prompt, against the rest of its samples.",
)


@dataclass
class Calibration:
    path: Path
    prompts: int
    samples: int
    nll: dict[str, float]  # head, marginal
    ks: dict[str, float]
    pit: dict[str, np.ndarray]  # counts by bin
    errors: dict[int, dict[float, float]]  # samples -> weight -> error


def read(folder: Path) -> Calibration:
    """Of amortised.path."""
    path = folder / "calibration.json" if folder.is_dir() else folder
    record = parse_json(read_text(path), f"'{path}'")
    if record.get("format") != "vbon.calibration":
        raise InputError(f"'{path}' is no calibration of vbon amortise (format 'vbon.calibration')")
    if "heldout" not in record:
        raise InputError(f"'{path}' has no held-out figures: make a pool of prompts.eval before `vbon amortise`")
    try:
        return _calibration(path, record["heldout"])
    except (KeyError, TypeError, ValueError) as fault:
        raise InputError(f"'{path}' lacks a figure or has a wrong one: {fault}") from fault


def _calibration(path: Path, heldout: dict[str, Any]) -> Calibration:
    both = {name: heldout[name] for name in ("head", "marginal")}
    errors: dict[int, dict[float, float]] = {}
    for one in heldout.get("shrinkage") or []:
        errors.setdefault(int(one["samples"]), {})[float(one["weight"])] = float(one["rmse"])
    pit = {name: np.asarray(one["pit"], dtype=np.int64) for name, one in both.items()}
    if pit["head"].ndim != 1 or len(pit["head"]) < 2 or pit["head"].shape != pit["marginal"].shape:
        raise ValueError("'pit' is no list of counts by bin")
    return Calibration(path, int(heldout["prompts"]), int(heldout["samples"]),
                       {name: float(one["nll"]) for name, one in both.items()},
                       {name: float(one["ks"]) for name, one in both.items()}, pit, errors)  # fmt: skip


def table(one: Calibration) -> Table:
    """Errors of F; a row a number of samples, a column a weight of the head."""
    weights = sorted({weight for errors in one.errors.values() for weight in errors})
    columns = [Column("samples", "samples", None)]
    columns += [Column(f"weight_{weight:g}", _title(weight)) for weight in weights]
    columns.append(Column("best_weight", "best", None))
    rows: list[list] = []
    for samples, errors in sorted(one.errors.items()):
        best = min(errors, key=lambda weight: errors[weight])
        rows.append([samples, *(errors.get(weight) for weight in weights), _title(best)])
    return Table(columns, rows, "Error of F from few samples, by the weight of the head", list(ABOUT[1:]))


def figures(one: Calibration) -> Table:
    columns = [Column("of", "F by"), Column("nll", "-log density"), Column("ks", "distance of the transform")]
    names = {"head": "the prompt's embedding", "marginal": "one for all"}
    rows: list[list] = [[names[name], one.nll[name], one.ks[name]] for name in names]
    title = f"On {one.prompts} prompts with {one.samples} samples each, none seen"
    return Table(columns, rows, title, list(ABOUT[:1]))


def _title(weight: float) -> str:
    return {COUNTS: "counts alone", HEAD: "head alone"}.get(weight, f"weight {weight:g}")


def save_picture(one: Calibration, output: Output) -> None:
    with panels(WIDTH, HEIGHT, 1, 2 if one.errors else 1) as (made, axes):
        _draw_transform(axes[0], one)
        if one.errors:
            _draw_errors(axes[1], one)
        output.figure("calibration", made)


def _draw_transform(axes: Axes, one: Calibration) -> None:
    bins = len(one.pit["head"])
    edges = np.linspace(0, 1, bins + 1)
    count = one.pit["head"].sum()
    band = Z95 * np.sqrt((1 - 1 / bins) * bins / count)
    axes.axhspan(1 - band, 1 + band, color=GREY, alpha=0.15, linewidth=0)
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))
    for at, (name, label) in enumerate((("head", "by the prompt"), ("marginal", "one for all"))):
        look, density = look_of(at), one.pit[name] / one.pit[name].sum() * bins
        axes.stairs(density, edges, color=look.colour, linestyle=look.dash, linewidth=1.6, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, None)
    axes.set_xlabel("F at the reward")
    axes.set_ylabel("density")
    axes.set_title(f"Transform on {one.prompts} unseen prompts")
    axes.legend()


def _draw_errors(axes: Axes, one: Calibration) -> None:
    for at, (samples, errors) in enumerate(sorted(one.errors.items())):
        weights = sorted(weight for weight in errors if weight not in (COUNTS, HEAD))
        look = look_of(at)
        axes.plot(weights, [errors[weight] for weight in weights], color=look.colour, linestyle=look.dash,
                  marker=look.marker, markersize=4, label=f"{samples} samples")  # fmt: skip
        if COUNTS in errors:
            axes.axhline(errors[COUNTS], color=look.colour, linewidth=0.7, linestyle=(0, (1, 3)))
    if alone := next((errors[HEAD] for errors in one.errors.values() if HEAD in errors), None):
        axes.axhline(alone, color=INK, linewidth=0.9, linestyle=(0, (5, 2)))
        axes.annotate("head alone", (1, alone), (-2, 2), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", va="bottom")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(short_number)
    axes.set_ylim(0, None)
    axes.set_xlabel("weight of the head, in samples (dotted: counts alone)")
    axes.set_ylabel("error of F")
    axes.set_title("F from few samples")
    axes.legend(title=None)
