"""A run folder with everything that was found in it, and the pool that its evaluations were compared with."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import lookup, parse_config
from .decode import Decoder
from .errors import InputError
from .h5 import open_h5
from .io import (
    Evaluation,
    Metrics,
    Pool,
    Provenance,
    read_config,
    read_evaluation,
    read_pool,
    read_provenance,
    read_summary,
    read_text,
)
from .metrics import read_metrics, read_metrics_h5

OTHER_MODEL = "model"  # method of an evaluation of a folder that is no checkpoint of vbon
NUMBERS = ("vbon.N", "vbon.beta", "train.steps", "run.seed", "pool.samples", "pool.use", "sampling.temperature")


@dataclass
class Run:
    """`evaluations`: of the policy by step, ascending, on the run's own prompts at its own temperature; `others`: on
    other prompts or at other temperatures; `references`: the reference evaluated as a policy, `null` the first of them
    on the own prompts; `notes`: what the reader of a report has to know about the files."""

    path: Path
    name: str
    config: dict[str, Any]
    config_text: str
    metrics: Metrics | None
    provenance: Provenance
    evaluations: list[Evaluation]
    null: Evaluation | None
    summary: dict[str, Any]  # of the last evaluation; {}: none
    is_finished: bool
    others: list[Evaluation] = field(default_factory=list)
    references: list[Evaluation] = field(default_factory=list)
    overrides: dict[str, Any] = field(default_factory=dict)  # of the sweep that it belongs to
    pool: Pool | None = None
    tokenizer: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def final(self) -> Evaluation | None:
        return self.evaluations[-1] if self.evaluations else None

    @property
    def method(self) -> str:
        return str(lookup(self.config, "train.method", self.final.method if self.final else "unknown"))

    @property
    def seed(self) -> int | None:
        """Of the training."""
        said = lookup(self.config, "run.seed", self.provenance.seed)
        return said if said is not None or self.final is None else self.final.training_seed

    @property
    def n(self) -> float | None:
        """The N of Best-of-N that the run aims at; None for methods without one."""
        from .methods import method_key, method_of  # matplotlib is loaded only where a method is looked at

        if method_of(method_key(self)).parameter != "N":
            return None
        if (n := lookup(self.config, "vbon.N")) is not None:
            return float(n)
        if (beta := lookup(self.config, "vbon.beta")) is not None:
            return 1 / float(beta) + 1
        return self.final.n if self.final and self.final.n > 1 else None


def read_run(path: Path) -> Run:
    """InputError when the folder is no run, or when a file in it is not what its name says."""
    if not path.is_dir():
        raise InputError(f"'{path}' is no folder; name the folder of a run (run.dir of its configuration)")
    is_trained, files = (path / "config.yaml").is_file(), _evaluation_files(path / "eval")
    if not is_trained and not files:
        raise InputError(f"'{path}' holds no run of vbon (no config.yaml) and no evaluation of one")
    found = sorted((read_evaluation(file) for file in files), key=_order)
    # What vbon eval leaves in a folder of its own is a run too: its evaluations say how it was made.
    config_text = read_text(path / "config.yaml") if is_trained else found[-1].provenance.config
    config = read_config(path / "config.yaml") if is_trained else config_of(found[-1])
    _require_plausible(config, path / "config.yaml" if is_trained else found[-1].path)
    metrics, provenance = _read_record(path)
    of_policy = [one for one in found if one.method not in ("reference", OTHER_MODEL)]
    own, others = _split(of_policy, config)
    if provenance is None and own:
        provenance = own[-1].provenance
    references = [one for one in found if one.method == "reference"]
    nulls = [*(one for one in references if _is_own(one, config)), *(one for one in own if one.step == 0)]
    run = Run(
        path=path,
        name=path.resolve().name,
        config=config,
        config_text=config_text,
        metrics=metrics,
        provenance=provenance or Provenance(),
        evaluations=own,
        null=nulls[0] if nulls else None,
        summary=_read_last_summary(path / "eval"),
        is_finished=not is_trained or (path / "finished").is_file(),
        others=others,
        references=references,
    )
    run.tokenizer = _find_tokenizer(run)
    if strange := sum(one.method == OTHER_MODEL for one in found):
        run.notes.append(f"Passed over: {strange} evaluation{'s' if strange > 1 else ''} of another model's folder.")
    _note_what_is_missing(run)
    return run


def attach_pool(run: Run, given: Path | None, cache: dict[Path, Pool]) -> None:
    """The pool of the evaluations: `given`, or where the configuration says (seen from here, or from the run's folder
    or one above it). InputError when `given` is another pool than that of the evaluations."""
    wanted = run.final.provenance.sha256.get("pool") if run.final else None
    said = lookup(run.config, "pool.eval_path")
    for path in [given] if given else [*places(run, said), run.path / "pool.h5"] if said else []:
        if not given and not path.is_file():
            continue
        resolved = path.resolve()
        pool = cache[resolved] if resolved in cache else read_pool(path)
        cache[resolved] = pool
        if wanted and pool.provenance.sha256.get("content") not in (None, wanted):
            if given:
                raise InputError(f"'{path}' is not the pool that '{run.path}' was evaluated with (pool_sha256 differs)")
            continue
        run.pool = pool
        return
    run.notes.append(
        "The pool of the evaluation prompts was not found"
        + (f" at {said} or is another one" if said else "")
        + ": no reference and no best-of-N computed from it. Name it with --pool."
    )


def places(run: Run, said: Any) -> list[Path]:
    """Where a path of its configuration may lead to: seen from here, from the run's folder, or from one above it."""
    return [base / str(said) for base in (Path("."), run.path, *list(run.path.resolve().parents)[:3])]


def config_of(evaluation: Evaluation) -> dict[str, Any]:
    """The configuration that it was made with, as its file keeps it."""
    return parse_config(evaluation.provenance.config, f"'{evaluation.path}': attribute 'config'")


def _evaluation_files(folder: Path) -> list[Path]:
    """Those made in training (step-N.h5) and by vbon eval, each in a folder of its own."""
    return sorted(file for name in ("*.h5", "*/eval.h5") for file in folder.glob(name) if not file.name.startswith("."))


def _split(found: list[Evaluation], config: dict[str, Any]) -> tuple[list[Evaluation], list[Evaluation]]:
    """The run's own evaluations and the others; where none is its own, those like the last are."""
    own = [one for one in found if _is_own(one, config)]
    if not own and found:
        own = [one for one in found if one.setting == found[-1].setting]
    return own, [one for one in found if not any(one is other for other in own)]


def _is_own(evaluation: Evaluation, config: dict[str, Any]) -> bool:
    """Whether it has the prompts and the temperature of the run; what is not said agrees."""
    temperature, prompts = lookup(config, "sampling.temperature"), lookup(config, "prompts.eval")
    is_same_place = prompts is None or lookup(config_of(evaluation), "prompts.eval", prompts) == prompts
    return is_same_place and (temperature is None or float(temperature) == evaluation.temperature)


def _order(evaluation: Evaluation) -> tuple[int, str]:
    return evaluation.step, evaluation.provenance.created_utc


def _require_plausible(config: dict[str, Any], path: Path) -> None:
    numbers = {key: lookup(config, key) for key in NUMBERS}
    for key, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"'{path}': {key} is no number")
    if ((n := numbers["vbon.N"]) is not None and n < 1) or ((b := numbers["vbon.beta"]) is not None and b <= 0):
        raise InputError(f"'{path}': vbon.N has to be >= 1, vbon.beta > 0")


def _read_record(path: Path) -> tuple[Metrics | None, Provenance | None]:
    """metrics.jsonl has the newest rows, metrics.h5 the provenance."""
    metrics, provenance = None, None
    if (path / "metrics.h5").exists():
        with open_h5(path / "metrics.h5", "vbon.metrics") as source:
            provenance = read_provenance(source)
        metrics = read_metrics_h5(path / "metrics.h5")
    if (path / "metrics.jsonl").exists():
        metrics = read_metrics(path / "metrics.jsonl")
    return metrics, provenance


def _read_last_summary(folder: Path) -> dict[str, Any]:
    """Of eval/final-*/summary.json, eval/summary.json and eval/step-*.json that of the highest step; {}: none."""
    names = ("step-*.json", "summary.json", "final-*/summary.json")
    found = [read_summary(file) for name in names for file in sorted(folder.glob(name))]
    return max(found, key=lambda one: one["step"] if isinstance(one.get("step"), int) else -1, default={})


def _find_tokenizer(run: Run) -> Path | None:
    """Of the last checkpoint, else of the reference."""
    if found := sorted(run.path.glob("checkpoints/step-*/policy/tokenizer.json")):
        return found[-1]
    said = lookup(run.config, "model.reference")
    found = [folder / "tokenizer.json" for folder in places(run, said)] if said else []
    return next((path for path in found if path.is_file()), None)


def _note_what_is_missing(run: Run) -> None:
    if run.metrics is None or not len(run.metrics.step):
        run.notes.append("No metrics.jsonl or metrics.h5: no curves, no times.")
    if not run.evaluations:
        run.notes.append("No evaluation in eval/: no table, no picture. Make one with vbon eval.")
    if not run.is_finished:
        run.notes.append("The run is not finished: the figures are those so far.")


def decoders_of(runs: list[Run], given: Path | None) -> list[Decoder | None]:
    """By the tokenizer named, or by that of each run's last checkpoint; equal tokenizers are read once."""
    cache: dict[str, Decoder] = {}
    return [_decoder(run, given, cache) for run in runs]


def _decoder(run: Run, given: Path | None, cache: dict[str, Decoder]) -> Decoder | None:
    """None, with a note in the run, where its samples can be shown as token ids only."""
    path = given or run.tokenizer
    if path is None:
        run.notes.append(
            "No tokenizer.json in its checkpoints or its reference: samples are token ids. Name one with --tokenizer."
        )
        return None
    try:
        text = read_text(path)
        if text not in cache:
            cache[text] = Decoder(path)
        return cache[text]
    except InputError as fault:
        if given:
            raise
        run.notes.append(f"{fault}: samples are token ids.")
        return None
