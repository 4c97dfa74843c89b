"""`analysis samples`: texts of several methods, as text, Markdown and CSV."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.io import read_evaluation
from analysis.points import points_of
from analysis.samples import one_a_method
from analysis.selection import read_evaluated

from . import fixtures, sweeps
from .commands import Done, fails


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_holds_texts_and_rewards_of_every_run(runs, capsys) -> None:
    assert main(["samples", str(runs.vbon), str(runs.ppo), "-n", "3", "--format", "csv"]) == 0
    found = rows(capsys.readouterr().out)
    assert [row["method"] for row in found[:4]] == ["reference", "best of 4, from the pool", "vbon-n4", "ppo"]
    assert len(found) == 12 and found[0]["prompt_id"] == "100" and found[-1]["prompt_id"] == "123"
    evaluation = read_evaluation(runs.vbon / "eval" / "step-00000030.h5")
    assert float(found[2]["reward"]) == evaluation.rewards["main"][0, 0]
    assert float(found[2]["evaluator"]) == evaluation.rewards["evaluator"][0, 0]
    words = ["", *fixtures.PRAISE, *fixtures.OTHER]
    ids = evaluation.tokens([0])[0, 0]
    assert found[2]["text"].split() == [words[token] for token in ids if token > 0]
    assert found[2]["finished"] == str(bool(evaluation.finished[0, 0])).lower() and found[0]["run"] == ""
    best = runs.block["reward/main/value"][0, :4].max()
    assert float(found[1]["reward"]) == pytest.approx(best)


def test_markdown_has_a_table_a_prompt_in_which_nothing_is_markup(runs, capsys) -> None:
    assert main(["samples", str(runs.vbon), "--prompts", "101,100", "--format", "md"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("**Prompt 101, temperature 0.7:** A story about &lt;script>alert(1)&lt;/script> 1")
    assert text.count("| method") == 2 and "**Prompt 100, temperature 0.7:** The film is 0" in text
    assert main(["samples", str(runs.vbon), "--prompts", "101"]) == 0
    assert "A story about <script>alert(1)</script> 1 …" in capsys.readouterr().out


def test_of_many_runs_one_a_method_is_shown_that_with_the_nearest_kl(sweep: Path, tmp_path: Path, capsys) -> None:
    points = points_of(read_evaluated([sweep])[0])
    for kl in (0.1, 1.0, None):
        chosen, target = one_a_method(points, kl)
        assert target == (kl or np.median([point.mean("kl") for point in points]))
        assert [point.method for point in chosen] == ["vbon", "bonbon", "ppo"]
        for one in chosen:
            distances = [abs(point.mean("kl") - target) for point in points if point.method == one.method]
            assert abs(one.mean("kl") - target) == min(distances)
    done = Done(capsys, tmp_path / "out", "samples", sweep, "--kl", "0.1", "-n", "1", "--format", "csv")
    found = rows("".join(line + "\n" for line in done.text.splitlines() if not line.startswith(str(tmp_path))))
    assert [row["method"] for row in found] == ["reference", "best of 2, from the pool", "vBoN, N = 2",
                                                "BoNBoN, N = 4", "PPO, β = 0.5"]  # fmt: skip
    assert "nearest to 0.1 nats" in done.notes and done.files == {"samples.md", "samples.csv"}
    assert rows((tmp_path / "out" / "samples.csv").read_text()) == found


def test_the_references_tokenizer_serves_where_checkpoints_are_gone(sweep: Path, tmp_path: Path, capsys) -> None:
    import shutil

    copy = Path(shutil.copytree(sweep / "runs" / "vbon-2-s1", tmp_path / "run"))
    shutil.rmtree(copy / "checkpoints")
    assert main(["samples", str(copy), "-n", "1"]) == 0
    assert "samples are token ids" in capsys.readouterr().err
    fixtures.write_tokenizer(tmp_path / "reference" / "tokenizer.json")
    (copy / "config.yaml").write_text(fixtures.config_text(Path("x"), n="2", model__reference="reference"))
    assert main(["samples", str(copy), "-n", "1"]) == 0
    assert "token ids" not in capsys.readouterr().err


def test_another_evaluation_brings_its_prompts_its_temperature_and_its_pool(tmp_path: Path, capsys) -> None:
    own, far, sha256 = tmp_path / "pool.h5", tmp_path / "far.h5", "c" * 64
    pool = fixtures.write_pool(own, num_prompts=4)
    of_far = fixtures.write_pool(far, num_prompts=3, m=8, temperature=0.25, content_sha256=sha256)
    for method, strength in (("vbon", 4.0), ("ppo", 0.5)):
        sweeps.write_member(tmp_path / method, pool, method, strength, 1)
        for step, pull in ((6, 0.3), (12, 1.0)):
            path = tmp_path / method / "eval" / f"far-t025-{step:08d}" / "eval.h5"
            config = fixtures.config_text(far, prompts__eval="data/far.jsonl", sampling__temperature="0.25")
            block = fixtures.write_evaluation(path, step, pull, of_far, method=method, temperature=0.25, config=config,
                                              pool_sha256=sha256)  # fmt: skip
    names = ["samples", tmp_path / "vbon", tmp_path / "ppo", "-n", "1"]
    done = Done(capsys, tmp_path / "out", *names, "--evaluation", "far-t025")
    found = rows((tmp_path / "out" / "samples-far-t025.csv").read_text())
    assert done.files == {"samples-far-t025.md", "samples-far-t025.csv"} and not done.notes
    assert [(row["method"], row["temperature"]) for row in found] == [
        ("reference", "0.25"), ("best of 4, from the pool", "0.25"), ("vbon", "0.25"), ("ppo", "0.25")]  # fmt: skip
    assert float(found[0]["reward"]) == of_far["reward/main/value"][0, 0]
    assert float(found[1]["reward"]) == of_far["reward/main/value"][0, :4].max()
    assert float(found[3]["evaluator"]) == block["reward/evaluator/value"][0, 0]  # of the last step
    final = Done(capsys, tmp_path / "final", *names, "--evaluation", "final", "--format", "md")
    assert "samples-final.md" in final.files and "temperature 0.7:**" in final.text
    error = fails(capsys, *names, "--evaluation", "far")
    assert "'vbon' has no evaluation 'far' (it has: far-t025, final)" in error and "vbon eval --evaluation far" in error


def test_wrong_arguments_are_refused(runs, capsys) -> None:
    assert "-n 0" in fails(capsys, "samples", runs.vbon, "-n", "0")
    assert "--kl nan" in fails(capsys, "samples", runs.vbon, "--kl", "nan")
    assert "no prompt 7 (its ids: 100 to 123)" in fails(capsys, "samples", runs.vbon, "--prompts", "7")
    assert "--prompts x" in fails(capsys, "samples", runs.vbon, "--prompts", "x")
