"""Configurations beside each other: which keys make runs differ, and runs that differ in nothing but their seed."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from .config import lookup
from .errors import InputError
from .runs import Run

# Where a run lies, its seed, what may change on resume and what only measures: none of it makes another method.
PASSED_OVER = ("run.", "eval.", "log.", "cluster.", "checkpoint.", "rollouts.", "sft.heldout", "sft.max_heldout")
HELD_OUT = re.compile(r"(reward|evaluator|rewards\.[^.]+)\.train\.heldout")  # of reward models, the same
MATTERS = {"cluster.lag"}  # of those: which policy draws
NAMED = ("rewards.", "evaluations.")  # sections that a configuration has or not


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """ "section.key" -> value, lists as they are."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return found


def recipe(config: dict[str, Any], passed_over: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys that make the method what it is; `passed_over`: further beginnings of keys that do not."""
    return {
        key: value
        for key, value in flatten(config).items()
        if key in MATTERS or not (key.startswith(PASSED_OVER + passed_over) or HELD_OUT.fullmatch(key))
    }


def recipes(runs: list[Run], passed_over: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """recipe() of each, without keys that some configurations lack, as older programs wrote them, and that have one
    value in all others."""
    found = [recipe(run.config, passed_over) for run in runs]
    for key in dict.fromkeys(key for one in found for key in one if not key.startswith(NAMED)):
        values = {repr(one[key]) for one in found if key in one}
        if len(values) == 1 and any(key not in one for one in found):
            for one in found:
                one.pop(key, None)
    return found


def differing(configs: list[dict[str, Any]]) -> list[str]:
    """Keys of flat configurations that do not have one value in all of them, in their order."""
    keys = list(dict.fromkeys(key for config in configs for key in config))
    return [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]


def cells(runs: list[Run], passed_over: tuple[str, ...] = ()) -> list[tuple[int, ...]]:
    """Indices of the runs of each configuration, seeds together, in the order of the first."""
    found: dict[str, list[int]] = {}
    for at, one in enumerate(recipes(runs, passed_over)):
        found.setdefault(repr(sorted(one.items())), []).append(at)
    return [tuple(members) for members in found.values()]


def require_key(runs: Iterable[Run], key: str) -> None:
    """InputError, with the nearest key, where no run has it."""
    keys = {name for run in runs for name in flatten(run.config)}
    if key not in keys and not any(lookup(run.config, key) is not None for run in runs):
        near = get_close_matches(key, sorted(keys), n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise InputError(f"no configuration has the key '{key}'{hint}")


def show(value: Any) -> str:
    """A value of a configuration in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
