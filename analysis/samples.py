"""Texts side by side: for some prompts a sample of the reference, the best of N of the pool, and those of policies."""

import re
from dataclasses import dataclass, field, replace

import numpy as np

from .decode import Decoder
from .errors import InputError
from .io import Block, Evaluation, Pool
from .points import Point, methods_of
from .runs import Run, config_of
from .shown import Shown
from .tables import compared_n

NUM_PROMPTS = 12
MANY_RUNS = 8  # from here on one run a method is shown
FOLDER = re.compile(r"(.+)-\d{8}")  # of an evaluation: its name and the step


@dataclass
class Sample:
    title: str
    text: str
    reward: float
    evaluator: float | None
    finished: bool
    temperature: float
    run: str = ""  # "": of the pool


@dataclass
class Comparison:
    prompt: str
    samples: list[Sample] = field(default_factory=list)
    prompt_id: int = 0


def with_evaluation(run: Run, name: str) -> Run:
    """The same with the last of its evaluations of this name in the place of its own, and the pool of that; InputError
    names those that there are."""
    found = {_name_of(one): one for one in sorted([*run.evaluations, *run.others], key=lambda one: one.step)
             if one.path.name == "eval.h5"}  # fmt: skip
    if name not in found:
        raise InputError(
            f"'{run.name}' has no evaluation '{name}' (it has: {', '.join(sorted(found)) or 'none'}); make it with "
            f"vbon eval --evaluation {name}, from a configuration that has evaluations.{name}"
        )
    pool = config_of(found[name]).get("pool", {})
    return replace(run, evaluations=[found[name]], config=run.config | {"pool": pool})


def _name_of(evaluation: Evaluation) -> str:
    """Its key in the configuration's evaluations, or "final", as vbon eval calls its folder."""
    folder = evaluation.path.parent.name
    return found[1] if (found := FOLDER.fullmatch(folder)) else folder


def one_a_method(points: list[Point], kl: float | None) -> tuple[list[Point], float]:
    """Of each method the run whose KL is nearest to `kl` (None: the median of all), so that the texts are those of
    policies equally far from the reference; and that KL."""
    target = float(np.median([point.mean("kl") for point in points])) if kl is None else kl
    chosen = [min((point for point in points if point.method == key), key=lambda point: abs(point.mean("kl") - target))
              for key in methods_of(points)]  # fmt: skip
    return chosen, target


def compare(shown: list[Shown], decoders: list[Decoder | None], count: int = NUM_PROMPTS,
            ids: list[int] | None = None, n: float | None = None) -> list[Comparison]:  # fmt: skip
    """Prompts evenly spread over those of the first evaluated run, or those of these ids; other runs where they have
    the same prompt.

    The reference's is the pool's first sample, the best of N the best of its first N (`n`, or what the first run is
    compared with); the policy's are the first of the evaluation (two of a single run): nothing is picked by hand or by
    reward.
    """
    evaluated = [(one, decoder) for one, decoder in zip(shown, decoders) if one.run.final is not None]
    if not evaluated:
        return []
    first = evaluated[0][0].run.final
    assert first is not None
    chosen = _chosen(first, count, ids)
    found = [Comparison(first.prompt_text[row], [], int(first.prompt_id[row])) for row in chosen]
    for one, decoder in evaluated:
        if one.view is not None:
            _add_pool(found, chosen, one, decoder, first.prompt_sha256, n or compared_n(one.run))
            break
    per_run = 2 if len(evaluated) == 1 else 1
    for one, decoder in evaluated:
        _add_policy(found, chosen, one, decoder, first.prompt_sha256, per_run)
    return found


def _chosen(block: Block, count: int, ids: list[int] | None) -> list[int]:
    """Rows."""
    if ids is None:
        return np.unique(np.linspace(0, len(block.prompt_text) - 1, count).round().astype(int)).tolist()
    return block.rows_of(ids)


def _rows(sha256: list[str], wanted: list[str], chosen: list[int]) -> list[int | None]:
    at = {text: row for row, text in reversed(list(enumerate(sha256)))}
    return [at.get(wanted[row]) for row in chosen]


def _add_pool(
    found: list[Comparison], chosen: list[int], one: Shown, decoder: Decoder | None, keys: list[str], n: float | None
) -> None:
    assert one.view is not None
    pool = one.view.pool
    best_of = max(2, min(round(n), one.view.m)) if n is not None else None
    rows = _rows(pool.prompt_sha256, keys, chosen)
    tokens = _tokens_of(pool, rows)
    for comparison, row in zip(found, rows):
        if row is None:
            continue
        comparison.samples.append(_sample("reference", pool, row, 0, tokens, decoder))
        if best_of is not None:
            best = int(np.argmax(pool.rewards["main"][row, :best_of]))
            comparison.samples.append(_sample(f"best of {best_of}, from the pool", pool, row, best, tokens, decoder))


def _add_policy(
    found: list[Comparison], chosen: list[int], one: Shown, decoder: Decoder | None, keys: list[str], per_run: int
) -> None:
    final = one.run.final
    assert final is not None
    rows = _rows(final.prompt_sha256, keys, chosen)
    tokens = _tokens_of(final, rows)
    for comparison, row in zip(found, rows):
        if row is None:
            continue
        for index in range(min(per_run, final.num_samples)):
            sample = _sample(one.title or one.run.name, final, row, index, tokens, decoder)
            sample.run = one.run.name
            comparison.samples.append(sample)


def _tokens_of(block: Block, rows: list[int | None]) -> dict[int, np.ndarray]:
    wanted = sorted({row for row in rows if row is not None})
    return dict(zip(wanted, block.tokens(wanted))) if wanted else {}


def _sample(
    title: str, block: Pool | Evaluation, row: int, index: int, tokens: dict[int, np.ndarray], decoder: Decoder | None
) -> Sample:
    ids = tokens[row][index][: block.length[row, index]]
    text = decoder(ids) if decoder else " ".join(str(token) for token in ids)
    evaluator = block.rewards.get("evaluator")
    return Sample(
        title=title,
        text=text,
        reward=float(block.rewards["main"][row, index]),
        evaluator=None if evaluator is None else float(evaluator[row, index]),
        finished=bool(block.finished[row, index]),
        temperature=block.temperature,
    )
