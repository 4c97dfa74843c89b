"""`analysis temperatures`: methods by sampling temperature and set of prompts."""

from pathlib import Path

import numpy as np
import pytest

from analysis.io import read_evaluation
from analysis.runs import read_run
from analysis.temperatures import newest, sets_of

from . import fixtures, sweeps
from .commands import Done, fails


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("warm")
    return sweeps.write_temperatures(folder, {"vbon": 4.0, "ppo": 0.5}, [1, 2], [0.25, 1.0], num_prompts=6)


def test_a_run_keeps_its_own_evaluations_apart_from_those_at_other_temperatures(warm: Path) -> None:
    run = read_run(warm / "runs" / "vbon-s1")
    assert [one.temperature for one in run.evaluations] == [0.7] and run.final.temperature == 0.7
    assert sorted((one.temperature, one.prompt_text[0][:5]) for one in run.others) == [
        (0.25, "The f"), (0.25, "other"), (1.0, "The f"), (1.0, "other")]  # fmt: skip
    assert len(newest(run)) == 5


def test_every_temperature_has_the_mean_over_seeds_of_its_own_evaluations(warm: Path, tmp_path: Path, capsys) -> None:
    done = Done(capsys, tmp_path / "out", "temperatures", warm)
    rows = done.rows("temperatures")
    ood = [row for row in rows if row["prompts"] == "eval-ood"]
    assert [(row["method"], row["temperature"]) for row in ood] == [
        ("reference", "0.25"), ("reference", "1.0"), ("best-of-N", "0.25"), ("best-of-N", "1.0"),
        ("vBoN", "0.25"), ("vBoN", "1.0"), ("PPO", "0.25"), ("PPO", "1.0")]  # fmt: skip
    for row in ood[4:]:
        name = {"vBoN": "vbon", "PPO": "ppo"}[row["method"]]
        files = [warm / "runs" / f"{name}-s{seed}" / "eval" / f"ood-{float(row['temperature']):g}" for seed in (1, 2)]
        found = [read_evaluation(file / "eval.h5") for file in files]
        assert float(row["win"]) == pytest.approx(np.mean([one.win.mean() for one in found]))
        assert float(row["evaluator"]) == pytest.approx(np.mean([one.rewards["evaluator"].mean() for one in found]))
        assert float(row["evaluator_win"]) == pytest.approx(np.mean([one.summary["policy.evaluator_win"] for one in found]))
        assert row["runs"] == "2"
    assert (ood[0]["win"], ood[2]["N"], float(ood[2]["evaluator"])) == ("0.5", "4.0", 0.7)
    assert (ood[0]["evaluator_win"], float(ood[2]["evaluator_win"])) == ("0.5", 0.65)
    assert float(ood[0]["evaluator"]) == pytest.approx(found[0].summary["reference.evaluator"])
    done.require_figures("temperatures")
    assert len(done.files) == 4


def test_the_reference_evaluated_as_a_policy_comes_before_the_pools_own_row(tmp_path: Path) -> None:
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=5)
    sweeps.write_member(tmp_path / "run", pool, "vbon", 4, 1)
    path = tmp_path / "run" / "eval" / "reference" / "eval.h5"
    block = fixtures.write_evaluation(path, 0, 0.0, pool, method="reference", n=1.0)
    (found,) = sets_of([read_run(tmp_path / "run")])
    assert found.reference[0.7, "evaluator"].value == pytest.approx(block["reward/evaluator/value"].mean())
    assert found.name == "prompts-eval" and found.n == 4


def test_the_reference_may_lie_in_a_folder_of_its_own(warm: Path, tmp_path: Path, capsys, undrawn) -> None:
    for kind, name in (("", "id"), ("other: ", "ood")):
        pool = fixtures.World().block(6, 8, 0.25, 1, kind)
        config = fixtures.config_text(Path("x"), prompts__eval=f"data/{name}.jsonl", sampling__temperature="0.25")
        for temperature in (0.25, 1.0):
            path = tmp_path / "reference" / "eval" / f"{name}-{temperature}" / "eval.h5"
            block = fixtures.write_evaluation(path, 0, 0.0, pool, method="reference", n=1.0, temperature=temperature,
                                              config=config, prompts_sha256=name, seed=9)  # fmt: skip
    rows = Done(capsys, tmp_path / "out", "temperatures", warm, tmp_path / "reference").rows("temperatures")
    (row,) = [r for r in rows if (r["prompts"], r["method"], r["temperature"]) == ("eval-ood", "reference", "1.0")]
    assert float(row["reward"]) == pytest.approx(block["reward/main/value"].mean(dtype=np.float64))
    assert "none of these runs" in fails(capsys, "temperatures", tmp_path / "reference", "-o", tmp_path / "x")


def test_evaluations_of_other_models_are_passed_over(tmp_path: Path) -> None:
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=3)
    sweeps.write_member(tmp_path / "run", pool, "vbon", 4, 1)
    fixtures.write_evaluation(tmp_path / "run" / "eval" / "x" / "eval.h5", 0, 0.5, pool, method="model")
    run = read_run(tmp_path / "run")
    assert len(run.evaluations) == 1 and not run.others and run.null is None
    assert "Passed over: 1 evaluation of another model's folder." in run.notes


def test_evaluations_alone_are_a_run_and_several_strengths_are_named(tmp_path: Path, capsys, undrawn) -> None:
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=5)
    for n in (4.0, 8.0):
        config = fixtures.config_text(Path("x"), n=f"{n:g}", sampling__temperature="0.5")
        for seed in (1, 2):
            path = tmp_path / f"n{n:g}" / "eval" / f"seed-{seed}" / "eval.h5"
            fixtures.write_evaluation(path, 30, 1.0, pool, n=n, temperature=0.5, config=config, seed=seed,
                                      evaluation_seed=np.int64(seed))  # fmt: skip
    done = Done(capsys, tmp_path / "out", "temperatures", tmp_path / "n4", tmp_path / "n8")
    rows = [row for row in done.rows("temperatures") if row["method"] == "vBoN"]
    assert [(row["N"], row["runs"]) for row in rows] == [("4.0", "2"), ("8.0", "2")]
    assert "one temperature" in done.notes
    labels = [line.label for line in sets_of([read_run(tmp_path / "n4"), read_run(tmp_path / "n8")])[0].lines]
    assert labels == ["vBoN, N = 4", "vBoN, N = 8"]


def test_configurations_that_differ_otherwise_are_lines_of_their_own(tmp_path: Path) -> None:
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=3)
    for estimator, seed in (("add_one", 1), ("add_one", 2), ("harmonic", 1)):
        sweeps.write_member(tmp_path / f"{estimator}-{seed}", pool, "vbon", 4, seed, vbon__estimator=estimator)
    (one,) = sets_of([read_run(path) for path in sorted(tmp_path.glob("*-*")) if path.is_dir()])
    assert [(line.label, len(line.points[0.7])) for line in one.lines] == [
        ("vBoN, N = 4, estimator = add_one", 2), ("vBoN, N = 4, estimator = harmonic", 1)]  # fmt: skip
