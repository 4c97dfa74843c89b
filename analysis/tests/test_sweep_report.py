"""The report of a sweep: one safe file that opens with the Pareto picture, and samples by prompt and method."""

import json
import re
import shutil
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.io import read_evaluation

from . import fixtures, sweeps
from .commands import Done, fails
from .page_parser import Page


@pytest.fixture(scope="module")
def text(sweep: Path, tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("page") / "sweep.html"
    assert main(["report", str(sweep), "-o", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def test_the_page_is_one_file_without_scripts_or_other_resources(text: str) -> None:
    page = Page(text)
    assert len(text.encode()) < 3_000_000
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            assert tag == "img" and value.startswith("data:image/svg+xml;base64,")
    assert set(re.findall(r"url\(\"?([^;]*);", page.style)) == {"data:image/svg+xml"} and "@import" not in page.style
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


def test_it_opens_with_the_picture_and_the_table_of_shares(
    text: str, sweep: Path, tmp_path: Path, capsys, undrawn
) -> None:
    page = Page(text)
    assert "12 runs of 3 methods in 6 configurations, evaluated on 16 held-out prompts × 8 samples." in page.text
    alts = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert alts[0] == "KL against win rate and reward of every run"
    shares = Done(capsys, tmp_path / "out", "pareto", sweep).rows("pareto-shares")
    rows = [row for row in page.rows if row and row[0].strip("|") in ("vBoN", "BoNBoN", "PPO")][:3]
    for row, told in zip(rows, shares):
        assert row[0].strip("|") == told["method"] and row[2].startswith(f"{100 * float(told['win_share']):.0f}%")
    best = max(shares, key=lambda row: float(row["win_share"]))
    assert f"Of the front of KL and win rate: {best['method']} {float(best['win_share']):.0%} (" in page.text


def test_every_prompt_and_view_has_its_button_label_and_rules(text: str) -> None:
    page = Page(text)
    of = lambda wanted: [value for tag, name, value in page.attributes if (tag, name) == wanted]  # noqa: E731
    buttons, labels = of(("input", "id")), of(("label", "for"))
    assert sorted(buttons) == sorted(labels) and len(set(buttons)) == 16 + 4  # all methods, and three by themselves
    assert of(("input", "type")) == ["radio"] * 20 and len(of(("input", "checked"))) == 2
    classes = " ".join(of(("article", "class")) + of(("div", "class"))).split()
    for name in buttons:
        assert f"#{name}:checked ~ " in page.style and name in classes


def test_samples_of_every_configuration_can_be_read(text: str, sweep: Path) -> None:
    page = Page(text)
    words = ["", *fixtures.PRAISE, *fixtures.OTHER]
    for name in ("vbon-2-s1", "bonbon-8-s1", "ppo-0.5-s1"):
        evaluation = read_evaluation(sweep / "runs" / name / "eval" / "final-00000012" / "eval.h5")
        decoded = " ".join(words[token] for token in evaluation.tokens([3])[0, 0] if token > 0)
        assert f"{evaluation.prompt_text[3]} {decoded}" in page.text
    assert "N = 2, KL " in page.text and "β = 0.5, KL " in page.text


def test_the_same_files_give_the_same_page(text: str, sweep: Path, tmp_path: Path) -> None:
    assert main(["report", str(sweep), "-o", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text


def test_names_and_texts_of_files_cannot_become_markup(tmp_path: Path, undrawn) -> None:
    evil = '<img src=x onerror="x">}</style>'
    sweeps.write_sweep(tmp_path, {"vbon": [4.0], "ppo": [0.5]}, [1], num_prompts=2)
    data = json.loads((tmp_path / "sweep.json").read_text())
    data["name"], data["runs"][0]["name"] = evil, evil
    (tmp_path / "sweep.json").write_text(json.dumps(data))
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=2)
    pool["prompt/text"] = [f"{evil}: ", "b"]
    path = tmp_path / "runs" / "vbon-4-s1" / "eval" / "final-00000012" / "eval.h5"
    for run in ("vbon-4-s1", "ppo-0.5-s1"):
        path = tmp_path / "runs" / run / "eval" / "final-00000012" / "eval.h5"
        fixtures.write_evaluation(path, 12, 1.0, pool, method=run.partition("-")[0], created_utc=evil)
    assert main(["report", str(tmp_path)]) == 0
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert evil in page.text and evil not in page.style and page.tags.count("style") == 1
    assert all(value.startswith("data:") for tag, name, value in page.attributes if name == "src")
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_what_is_left_out_or_missing_is_told(sweep: Path, tmp_path: Path, undrawn) -> None:
    copy = Path(shutil.copytree(sweep, tmp_path / "sweep"))
    (copy / "runs" / "vbon-2-s1" / "finished").unlink()
    (copy / "pool.h5").unlink()
    for name in ("metrics.jsonl", "metrics.h5"):
        for file in copy.glob(f"runs/*/{name}"):
            file.unlink()
    assert main(["report", str(copy), "--picture", str(tmp_path / "front.png")]) == 0
    page = Page((copy / "report.html").read_text(encoding="utf-8"))
    assert "Left out, not finished: vbon-2-s1." in page.text and "The pool of the evaluation prompts" in page.text
    assert "Time of a step" not in page.text and "No metrics.jsonl" in page.text
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_a_sweep_may_be_named_by_its_file(tmp_path: Path, undrawn) -> None:
    sweeps.write_sweep(tmp_path, {"vbon": [4.0]}, [1], num_prompts=2)
    assert main(["report", str(tmp_path / "sweep.json")]) == 0
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "1 run of 1 method in 1 configuration," in page.text and "Of the front" not in page.text


def test_runs_beside_a_sweep_count_as_its_own(sweep: Path, tmp_path: Path, capsys, undrawn) -> None:
    pool = fixtures.write_pool(tmp_path / "pool.h5", num_prompts=16)
    sweeps.write_member(tmp_path / "dpo", pool, "dpo", 0.3, 1)
    assert main(["report", str(sweep), str(tmp_path / "dpo"), "-o", str(tmp_path / "page.html")]) == 0
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "13 runs of 4 methods" in page.text and "vbon: sweep small, dpo" in page.text
    assert "named twice" in fails(capsys, "report", sweep, sweep)
    assert "other prompts" in _of_other_prompts(sweep, tmp_path, capsys)


def _of_other_prompts(sweep: Path, tmp_path: Path, capsys) -> str:
    other = fixtures.write_pool(tmp_path / "other.h5", num_prompts=3)
    sweeps.write_member(tmp_path / "other", other, "dpo", 0.3, 1)
    return fails(capsys, "report", sweep, tmp_path / "other", "-o", tmp_path / "x.html")
