"""The report as a whole: one safe file, the right numbers, several runs, missing parts, and the command line."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.io import read_evaluation
from analysis.overview import warnings
from analysis.page import el, join
from analysis.shown import read_all

from . import commands, fixtures
from .page_parser import Page

ROOT = Path(__file__).resolve().parents[2]
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="session")
def single(runs, tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("page") / "one.html"
    assert main(["report", str(runs.vbon), "-o", str(out)]) == 0
    return out.read_text(encoding="utf-8")


@pytest.fixture
def copy(runs, tmp_path, undrawn) -> Path:
    """A run to damage, with few metrics."""
    folder = Path(shutil.copytree(runs.vbon, tmp_path / "run"))
    fixtures.write_metrics(folder, fixtures.few(fixtures.metrics_rows()))
    return folder


def report(*arguments: object) -> Page:
    """Of the runs named, which has to succeed; the page lies beside the first."""
    out = Path(str(arguments[0])).with_suffix(".html")
    assert main(["report", *(str(a) for a in arguments), "-o", str(out)]) == 0
    return Page(out.read_text(encoding="utf-8"))


def notes(run: Path, pool: Path | None = None) -> str:
    """What the report says about the run beside its figures."""
    (shown,) = read_all([run], pool)
    return "\n".join(warnings(shown))


def test_the_page_is_one_file_without_scripts_or_other_resources(single: str) -> None:
    assert len(single.encode()) < 5_000_000
    page = Page(single)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            assert tag == "img" and value.startswith("data:image/svg+xml;base64,")
    assert "url(" not in page.style and "@import" not in page.style
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes
    assert "://" not in re.sub(r'src="data:[^"]*"', "", single)


def test_every_picture_is_sound_svg_with_a_text_for_those_who_do_not_see_it(single: str) -> None:
    images = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]*)" alt="([^"]*)"', single)
    assert len(images) > 20
    for data, _ in images:
        svg = ElementTree.fromstring(base64.b64decode(data))
        assert svg.tag.endswith("}svg")
        for element in svg.iter():
            for name, value in element.attrib.items():
                assert not name.endswith("href") or value.startswith("#")
    assert {"reward over the steps", "learning rate over the steps"} <= {alt for _, alt in images}


def test_the_same_files_give_the_same_page(single: str, runs, tmp_path: Path) -> None:
    assert main(["report", str(runs.vbon), "-o", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == single


def test_texts_are_escaped(single: str) -> None:
    assert "<script>" not in single and "alert(1)" in single
    assert "A story about <script>alert(1)</script>" in Page(single).text
    assert el("p", "<b>&", title='"<') == '<p title="&quot;&lt;">&lt;b&gt;&amp;</p>'
    assert el("p", join("a<"), el("b", "c")) == "<p>a&lt;<b>c</b></p>"


def test_names_and_attributes_from_files_cannot_become_markup(runs, copy: Path, tmp_path: Path) -> None:
    evil = '<img src=x onerror="x">'
    folder = copy.rename(tmp_path / "a<b onload=x>&")
    (folder / "config.yaml").write_text(fixtures.config_text(runs.pool).replace("last 4", "<img src=x onerror=x>"))
    forced = {
        "forced": evil,
        "library_versions": json.dumps({evil: evil}),
        "created_utc": evil,
        "reference_sha256": evil,
    }
    for step in (0, 30):
        fixtures.write_evaluation(folder / "eval" / f"step-{step:08d}.h5", step, step / 30, runs.block)
    fixtures.write_h5(folder / "metrics.h5", fixtures.provenance("vbon.metrics", **forced), {
        name: np.array([], np.int64) for name in ("step", "episodes", "tokens")})  # fmt: skip
    out = tmp_path / "out.html"
    assert main(["report", str(folder), "-o", str(out)]) == 0
    page = Page(out.read_text(encoding="utf-8"))
    assert {value for tag, name, value in page.attributes if tag == "img" and name == "src"} > set()
    assert all(value.startswith("data:") for tag, name, value in page.attributes if tag == "img" and name == "src")
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert evil in page.text and "a<b onload=x>&" in page.text


def numbers(cell: str) -> list[float]:
    return [float(text) for text in re.findall(r"-?\d+\.\d+", cell.replace(MINUS, "-"))]


def table_of(page: Page) -> dict[str, dict[str, list[float]]]:
    """Rows of the comparison by name: column -> [value, se, low, high] as far as printed."""
    start = next(at for at, row in enumerate(page.rows) if "win rate|" in row)
    head = [cell.strip("|") for cell in page.rows[start]]
    return {
        row[0].strip("|"): {name: numbers(cell) for name, cell in zip(head[1:], row[1:])}
        for row in page.rows[start + 1 :]
        if len(row) == len(head)
    }


def test_the_numbers_of_the_table_are_those_of_an_independent_computation(single: str, runs) -> None:
    rows = table_of(Page(single))
    assert list(rows) == ["reference", "policy, one sample", "best of 4, from the pool", "best of 4, analytic"]
    pool = {name: value for name, value in runs.block.items() if not isinstance(value, list)}
    final = fixtures.write_evaluation(runs.folder / "again.h5", 30, 1.0, runs.block)

    def expect(row: str, column: str, per_prompt: np.ndarray, digits: int = 3) -> None:
        value, se, low, high = rows[row][column]
        assert value == pytest.approx(per_prompt.mean(), abs=0.51 * 10**-digits)
        assert se == pytest.approx(per_prompt.std(ddof=1) / np.sqrt(len(per_prompt)), abs=0.51 * 10**-digits)
        # An interval by the normal distribution is near that of the bootstrap: within a third of a standard error.
        close = se / 3 + 10**-digits
        assert (low, high) == pytest.approx((value - 1.96 * se, value + 1.96 * se), abs=close)

    expect("policy, one sample", "win rate", fixtures.naive_win(final["reward/main/value"], pool["reward/main/value"]))
    expect("policy, one sample", "KL, nats", final["sample/kl"].mean(axis=1))
    for row, block in (("policy, one sample", final), ("reference", pool)):
        expect(row, "reward", block["reward/main/value"].mean(axis=1))
        expect(row, "evaluator", block["reward/evaluator/value"].mean(axis=1))
        expect(row, "length", block["sample/length"].mean(axis=1), 1)
        expect(row, "finished", block["sample/finished"].mean(axis=1), 2)
    assert rows["reference"]["KL, nats"] == [0.0] and rows["reference"]["win rate"] == [0.5]
    assert rows["best of 4, analytic"]["KL, nats"] == [0.636] and rows["best of 4, analytic"]["win rate"] == [0.8]

    weights = np.array([[drawn_best(row, value) for value in row] for row in pool["reward/main/value"]])
    assert weights.sum(axis=1) == pytest.approx(np.ones(24))
    bon = "best of 4, from the pool"
    expect(bon, "reward", (weights * pool["reward/main/value"]).sum(axis=1))
    expect(bon, "evaluator", (weights * pool["reward/evaluator/value"]).sum(axis=1))
    expect(bon, "length", (weights * pool["sample/length"]).sum(axis=1), 1)
    expect(bon, "finished", (weights * pool["sample/finished"]).sum(axis=1), 2)

    kl, win = final["sample/kl"].mean(), final["win"].mean()
    n = np.linspace(1, 50, 2_000_001)
    same = n[np.searchsorted(np.log(n) - (n - 1) / n, kl)]
    share = (win - 0.5) / (same / (same + 1) - 0.5)
    assert rows["policy, one sample"]["efficiency"][0] == pytest.approx(share, abs=6e-4)


def drawn_best(row: np.ndarray, value: float, n: int = 4) -> float:
    """Probability of one sample with this reward to be the best of n drawn without replacement, ties shared."""
    from math import comb

    below, up_to = int((row < value).sum()), int((row <= value).sum())
    return (comb(up_to, n) - comb(below, n)) / comb(len(row), n) / (up_to - below)


def test_two_runs_stand_beside_each_other(runs, undrawn) -> None:
    page = report(runs.vbon, runs.ppo)
    rows = table_of(page)
    names = list(rows)
    assert names[:2] == ["reference", "vbon-n4"] and "ppo" in names and names.count("reference") == 1
    assert any(name.startswith("best of 4,") for name in names) and len(names) == 7
    # PPO aims at no N: beside it stands best-of-N at its own KL.
    other = next(row for name, row in rows.items() if name.endswith("analytic") and not name.startswith("best of 4,"))
    assert other["KL, nats"][0] == pytest.approx(rows["ppo"]["KL, nats"][0], abs=1e-3)
    assert "compared with best-of-N at its own KL" in page.text
    assert "vbon-n4: config.yaml" in page.text and "ppo: config.yaml" in page.text


def test_runs_of_one_name_are_told_apart(copy: Path, tmp_path: Path) -> None:
    for parent in ("a", "b"):
        shutil.copytree(copy, tmp_path / parent / "run")
    page = report(tmp_path / "a" / "run", tmp_path / "b" / "run")
    assert "a/run" in page.text and "b/run" in page.text


def test_samples_show_decoded_texts_with_their_rewards(single: str, runs) -> None:
    text = Page(single).text
    row, words = 0, ["<end>", *fixtures.PRAISE, *fixtures.OTHER]
    ids = runs.block["sample/tokens"][row, 0]
    decoded = " ".join(words[token] for token in ids if token > 0)
    assert f"{runs.block['prompt/text'][row]} {decoded}" in text
    reward = f"reward {runs.block['reward/main/value'][row, 0]:.3f}".replace("-", MINUS)
    assert reward in text
    best = runs.block["reward/main/value"][row, :4].max()
    assert f"reward {best:.3f}".replace("-", MINUS) in text


def test_a_run_without_optional_files_still_has_a_report(copy: Path) -> None:
    for name in ("metrics.h5", "finished"):
        (copy / name).unlink()
    shutil.rmtree(copy / "checkpoints")
    page = report(copy)
    assert "The run is not finished" in page.text and "samples are token ids" in page.text
    assert table_of(page)["policy, one sample"]["KL, nats"]
    (copy / "metrics.jsonl").unlink()
    assert "no curves" in report(copy).text
    shutil.rmtree(copy / "eval")
    page = report(copy)
    assert "Make one with vbon eval" in page.text and "not evaluated yet" in page.text


def test_without_the_pool_the_summary_fills_the_rows(copy: Path, tmp_path: Path) -> None:
    (copy / "config.yaml").write_text(fixtures.config_text(tmp_path / "nowhere.h5"))
    page = report(copy)
    assert "was not found" in page.text
    assert list(table_of(page)) == ["policy, one sample", "best of 4, analytic"]
    interval = {"win_se": 0.01, "win_low": 0.77, "win_high": 0.81}
    rows = [
        {"name": "reference", "n": None, "win": 0.5, "reward": -1.25, "reward_se": 0.125},
        {"name": "bon", "n": 4, "win": 0.79, "kl": None, **interval},
    ]
    (copy / "eval" / "summary.json").write_text(json.dumps({"format": "vbon.summary", "rows": rows}))
    found = table_of(report(copy))
    assert found["reference"]["reward"] == [-1.25, 0.125]
    assert found["best of 4, from the pool"]["win rate"] == [0.79, 0.01, 0.77, 0.81]
    assert found["best of 4, from the pool"]["KL, nats"] == []


def test_a_summary_that_disagrees_with_the_files_is_named(copy: Path) -> None:
    kl = float(read_evaluation(copy / "eval" / "step-00000030.h5").kl.mean(dtype=np.float64))
    rows = [{"name": "policy", "win": 0.9, "kl": kl}]
    (copy / "eval" / "summary.json").write_text(json.dumps({"format": "vbon.summary", "rows": rows}))
    found = notes(copy)
    assert "policy win: 0.9 in summary.json" in found and "policy kl" not in found


def test_the_summary_is_that_of_the_last_step_and_unfinished_chunks_are_passed_over(copy: Path) -> None:
    for step, win in ((30, 0.91), (20, 0.92)):
        summary = {
            "format": "vbon.summary",
            "step": step,
            "rows": [{"name": "policy", "win": win}],
            "efficiency": 0.123,
        }
        (copy / "eval" / f"step-{step:08d}.json").write_text(json.dumps(summary))
    (copy / "eval" / "chunks").mkdir()
    (copy / "eval" / "chunks" / "chunk-00001.h5").write_text("half a file")
    (copy / "eval" / ".step-00000040.h5.tmp").write_text("half a file")
    found = notes(copy)
    assert "policy win: 0.91 in summary.json" in found and "0.92" not in found
    assert "policy efficiency: 0.123 in summary.json" in found


def test_metrics_without_a_panel_of_their_own_are_drawn_by_name(copy: Path) -> None:
    fixtures.write_metrics(copy, [row | {"of_tomorrow": 1.5} for row in fixtures.metrics_rows(5)])
    page = report(copy)
    assert ("img", "alt", "of_tomorrow over the steps") in page.attributes and "Other" in page.text


def test_all_metrics_may_be_missing_or_null(copy: Path) -> None:
    (copy / "metrics.h5").unlink()
    lines = [{"step": s, "episodes": s, "tokens": s, "reward": None, "odd": 1.0, "time": {}} for s in range(3)]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = report(copy)
    assert "Time by role" not in page.text
    for tag, name, value in page.attributes:
        assert not (tag == "img" and name == "alt" and value.startswith("log F"))


def test_warnings_say_what_weakens_the_figures(copy: Path, runs) -> None:
    rows = fixtures.metrics_rows()
    for row in rows:
        row |= {"floor_share": 0.3, "ceiling_share": 0.4, "ratio_error": 0.01}
    fixtures.write_metrics(copy, rows)
    (copy / "config.yaml").write_text(fixtures.config_text(runs.pool, n="20"))
    fixtures.write_evaluation(copy / "eval" / "null.h5", 0, 1.0, runs.block, method="reference")
    text = notes(copy)
    for expected in ("fewer than 2N = 40", "30% of the samples were below", "40% of the samples were above",
                     "ratio error was 0.01", "The null check fails"):  # fmt: skip
        assert expected in text


def test_forced_mismatches_are_shown(copy: Path, runs) -> None:
    pool = copy / "pool.h5"
    fixtures.write_pool(pool, forced="temperature: 1 here, 0.7 in the file")
    assert "temperature: 1 here" in notes(copy, pool)


def test_time_of_every_rank_is_drawn(single: str) -> None:
    text = Page(single).text
    assert "Time by role" in text and "rank 0: 150" in text and "1,920 samples" in text


def fails(capsys, *arguments: object, code: int = 2) -> str:
    return commands.fails(capsys, "report", *arguments, code=code)


def test_what_is_no_run_is_refused(runs, tmp_path: Path, capsys) -> None:
    assert "is no folder" in fails(capsys, tmp_path / "none")
    assert "no config.yaml" in fails(capsys, tmp_path)
    assert "named twice" in fails(capsys, runs.vbon, runs.vbon)
    assert "a picture ends in" in fails(capsys, runs.vbon, "--picture", tmp_path / "x.gif")
    assert "does not exist" in fails(capsys, runs.vbon, "--pool", tmp_path / "none.h5")
    assert "cannot be read" in fails(capsys, runs.vbon, "--tokenizer", tmp_path / "none.json")
    assert not list(tmp_path.iterdir())


def test_another_pool_is_refused_when_named_and_passed_over_when_not(copy: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other.h5"
    fixtures.write_pool(other, content_sha256="7" * 64)
    assert "pool_sha256 differs" in fails(capsys, copy, "--pool", other)
    (copy / "config.yaml").write_text(fixtures.config_text(other))
    assert "is another one" in notes(copy)


def test_a_pool_that_lacks_prompts_is_not_used(copy: Path) -> None:
    fixtures.write_pool(copy / "small.h5", num_prompts=20)
    assert "lacks 4 of the 24 evaluated prompts" in notes(copy, copy / "small.h5")


def test_bad_files_in_a_run_end_it_before_anything_is_written(copy: Path, tmp_path: Path, capsys) -> None:
    damages = {
        "config.yaml": b"- a list\n",
        "metrics.jsonl": b"[]\n",
        "metrics.h5": b"no HDF5",
        "eval/step-00000030.h5": b"no HDF5",
        "eval/summary.json": b"{}",
    }
    for name, content in damages.items():
        before = (copy / name).read_bytes() if (copy / name).exists() else None
        (copy / name).write_bytes(content)
        assert Path(name).name in fails(capsys, copy, "-o", tmp_path / "out.html")
        (copy / name).write_bytes(before) if before is not None else (copy / name).unlink()
    for text in ("vbon:\n  N: 0.5\n", 'vbon:\n  N: "x"\n', "vbon:\n  N: 2\n  beta: -1\n"):
        (copy / "config.yaml").write_text(text)
        assert "config.yaml" in fails(capsys, copy, "-o", tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="nothing here that cannot be written")
def test_output_that_cannot_be_written_ends_with_74(copy: Path, tmp_path: Path, capsys) -> None:
    assert "cannot be written" in fails(capsys, copy, "-o", tmp_path / "no" / "folder.html", code=74)
    (tmp_path / "folder").mkdir()
    assert "cannot be written" in fails(capsys, copy, "-o", tmp_path / "folder", code=74)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "run"]


def test_the_command_runs_as_a_module_and_saves_the_picture(copy: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "analysis", "report", str(copy), "--picture", str(tmp_path / "p.png")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(copy / "report.html") and (copy / "report.html").is_file()
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    done = subprocess.run([*command[:4], "none"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert subprocess.run(command[:4], env=environment, capture_output=True, check=False).returncode == 2


def test_neither_torch_nor_pandas_is_ever_imported(copy: Path, tmp_path: Path) -> None:
    code = (
        "import pkgutil, sys, analysis; from importlib import import_module; "
        "names = [m.name for m in pkgutil.walk_packages(analysis.__path__, 'analysis.') if '.tests' not in m.name]; "
        "[import_module(name) for name in names if name != 'analysis.__main__']; "
        "from analysis.__main__ import main; "
        f"main(['report', {str(copy)!r}, '-o', {str(tmp_path / 'x.html')!r}]); "
        "loaded = {name.partition('.')[0] for name in sys.modules}; "
        "print(sorted(loaded & {'torch', 'pandas', 'tokenizers', 'transformers', 'yaml', 'seaborn', 'tensorboardX'}))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
