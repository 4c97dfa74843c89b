"""Every published configuration: it loads, validates, comes back the same from its own print-out, and can be planned.
Every published grid: all of its runs are valid, and no two are one."""
import functools
import json
import pathlib
import re

import pytest

from conftest import ROOT, Vbon, some

FILES = sorted((ROOT / "configs").rglob("*.yaml"))
GRIDS = [path for path in FILES if re.search(r"^runs:$", path.read_text(), re.M)]
CONFIGS = [path for path in FILES if path not in GRIDS]
SETS_OF_POOLS = {"variants.yaml": 4}  # the other tie rule, the second reward and prefixes have pools of their own
COMMANDS = ["sft", "reward", "pool", "train", "eval", "run"]


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A folder that stays so."""
    folder = tmp_path_factory.mktemp("empty")
    yield Vbon(folder)
    assert not list(folder.iterdir()), "a dry run writes nothing"


@functools.cache
def resolved(vbon, path, command, *more):
    """The configuration that a dry run prints."""
    done = vbon.run(command, "-c", path, "--dry-run", *more)
    assert "the configuration is valid" in done.stderr and done.stdout == ""
    lines = done.stderr.splitlines()
    first = next(i for i, line in enumerate(lines) if re.match(r"[a-z]+:$", line))
    last = next(i for i, line in enumerate(lines) if "the configuration is valid" in line)
    return "\n".join(lines[first:last]).rstrip() + "\n"


def ids(path: pathlib.Path):
    return str(path.relative_to(ROOT / "configs"))


@pytest.mark.parametrize("path", some(CONFIGS), ids=ids)
def test_it_comes_back_the_same(empty, tmp_path, path):
    text = resolved(empty, path, "train")
    (tmp_path / "again.yaml").write_text(text)
    assert resolved(empty, tmp_path / "again.yaml", "train") == text
    other = resolved(empty, path, "train", "-s", "run.seed=99")
    assert other != text and "seed: 99" in other


def wants(path, command):
    """Whether a configuration has what a command needs: an overlay need not give the stages before training."""
    text = path.read_text()
    return {"sft": "\nsft:" in text, "reward": re.search(r"labels: \S+\.jsonl", text), "run": "dir:" in text,
            "eval": re.search(r"eval_path:|^include:", text, re.M)}.get(command, True)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("path", some(CONFIGS), ids=ids)
def test_every_command_takes_it(empty, path, command):
    if not wants(path, command):
        pytest.skip(f"has no section for vbon {command}")
    assert resolved(empty, path, command) == resolved(empty, path, "train")


@pytest.mark.parametrize("path", some(CONFIGS), ids=ids)
def test_it_can_be_planned(toy, path):
    """With the toy's model in the place of the one that set-up makes, for ranks as a user would take."""
    for ranks in (1, 3, 8):
        done = toy.run("plan", "-c", path, "--ranks", ranks, "--json", "-s", "model.reference=reference",
                       "-s", "train.layers=all")
        plan = json.loads(done.stdout)
        assert plan and str(ranks) in done.stdout


@pytest.mark.parametrize("path", CONFIGS, ids=ids)
def test_without_its_files_a_plan_says_which_one_is_missing(empty, path):
    done = empty.run("plan", "-c", path, "--ranks", "3", expect=2)
    reference = re.search(r"reference: (\S+)", resolved(empty, path, "train")).group(1)
    assert reference in done.stderr and "config.json" in done.stderr


@pytest.mark.parametrize("path", GRIDS, ids=ids)
def test_a_grid_is_valid(empty, path):
    done = empty.run("sweep", path, "--dry-run")
    assert "0 done" in done.stdout and done.stdout.count("to do") >= 1
    sets = re.findall(r"^stages \d+:", done.stdout, re.M)
    assert len(sets) == SETS_OF_POOLS.get(path.name, 1), "its runs share their pools"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_its_comments_and_keys_fit_the_house(path):
    text = path.read_text()
    assert text.startswith("# "), "the first line says what the configuration is for"
    assert not re.search(r"(^|[\s'\"])/(home|root|work|tmp|scratch)/", text), "no path of a single machine"
