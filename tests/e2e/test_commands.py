"""Commands from outside: help, errors of input, sampling and scoring."""
import json
import math
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest

from conftest import ROOT


def test_config_document_is_what_the_program_says(toy):
    assert toy.run("help", "config", "markdown").stdout == (ROOT / "docs/config.md").read_text(), \
        "regenerate: vbon help config markdown > docs/config.md"


@pytest.mark.parametrize("arguments, words", [
    (["trian"], ["train"]),
    (["train"], ["-c"]),
    (["train", "-c", "missing.yaml"], ["missing.yaml"]),
    (["train", "-c", "toy.yaml", "-s", "sampling.temprature=1"], ["sampling.temprature", "sampling.temperature"]),
    (["train", "-c", "toy.yaml", "-s", "train.steps=many"], ["train.steps"]),
    (["run", "-c", "toy.yaml", "--from", "train", "--until", "reward"], ["--until reward", "--from train"]),
    (["train", "-c", "toy.yaml", "-s", "vbon.N=0.5", "-s", "pool.samples=1"], ["vbon.N", "pool.samples"]),
    (["train", "-c", "toy.yaml", "-s", "sampling.top_k=5"], ["top_k"]),
    (["train", "-c", "toy.yaml", "-s", "prompts.train=none.jsonl"], ["none.jsonl"]),
    (["train", "-c", "toy.yaml", "-s", "model.reference=nowhere"], ["nowhere"]),
    (["train", "-c", "toy.yaml", "-s", "cluster.roles={rollout: 2, scorer: 1, learner: 1}"], ["4", "1"]),
    (["pool", "-c", "toy.yaml", "-s", "sampling.temperature=0.5"], ["temperature"]),
    (["train", "-c", "toy.yaml", "-s", "sampling.max_new_tokens=7"], ["7", "8"]),
    (["train", "-c", "toy.yaml", "-s", "reward.id=v2"], ["reward"]),
])
def test_bad_input_is_named_before_work_starts(toy, arguments, words):
    done = toy.run(*arguments, "-s", "run.dir=never" if arguments[0] == "train" and len(arguments) > 1 else "run.dir=x", expect=2) \
        if "-c" in arguments else toy.run(*arguments, expect=2)
    for word in words:
        assert word in done.stderr, done.stderr
    assert not (toy.folder / "never").exists()


def test_sample_draws_what_its_seed_says_and_best_of_takes_the_best(toy):
    def draw(*more):
        out = toy.run("sample", "-c", "toy.yaml", "-m", "reference", "--prompt", "the film is", "--json", "--seed", 7, *more).stdout
        return [json.loads(line) for line in out.splitlines()]

    assert draw("-n", 3) == draw("-n", 3)
    assert len({record["response"] for record in draw("-n", 8)}) > 1
    best = draw("--best-of", 16)[0]["reward"]
    (toy.folder / "texts.jsonl").write_text(
        "".join(json.dumps({"prompt": r["prompt"], "response": r["response"]}) + "\n" for r in draw("-n", 16)))
    scored = toy.run("score", "-c", "toy.yaml", "--texts", "texts.jsonl").stdout
    assert best == max(json.loads(line)["reward"] for line in scored.splitlines())


def test_a_file_of_prompts_is_answered_as_its_prompts_are(toy):
    def records(*more):
        out = toy.run("sample", "-c", "toy.yaml", "-m", "reference", "--json", "--seed", 7, "-n", 3, *more)
        return [json.loads(line) for line in out.stdout.splitlines()], out.stderr

    texts = [json.loads(line)["prompt"] for line in (toy.folder / "train.jsonl").read_text().splitlines()]
    from_file, _ = records("--prompts", "train.jsonl")
    assert [record["prompt"] for record in from_file] == [text for text in texts for _ in range(3)]
    assert from_file == records(*(word for text in texts for word in ("--prompt", text)))[0]
    best, said = records("--prompts", "train.jsonl", "--best-of", 5)
    assert len(best) == len(from_file) and "24 answers, each the best of 5" in said and "tokens/s" in said
    assert np.mean([r["reward"] for r in best]) > np.mean([r["reward"] for r in records("--prompts", "train.jsonl", "--best-of", 2)[0]])


@pytest.mark.parametrize("ties", ["uniform", "total_order"])
def test_best_of_n_is_drawn_from_a_pool(toy, ties):
    with h5py.File(toy.folder / "pool.h5") as file:
        rewards, prompts = file["reward/main/value"][()], file["prompt/text"].asstr()[()].tolist()
        tokens, lengths, logp = file["sample/tokens"][()], file["sample/length"][()], file["sample/logp_reference"][()]

    def draw(n, samples, *more):
        out = toy.run("sample", "--pool", "pool.h5", "-s", "model.reference=reference", "-s", f"vbon.ties={ties}", "--json", "--best-of", n,
                      "-n", samples, *more).stdout
        return [json.loads(line) for line in out.splitlines()]

    whole = draw(32, 1)
    assert [record["prompt"] for record in whole] == prompts
    for row, record in enumerate(whole):
        assert record["reward"] == pytest.approx(rewards[row].max())
        tied = [i for i in range(32) if rewards[row, i] == rewards[row].max()]
        if ties == "total_order":
            best = max(tied, key=lambda i: tokens[row, i, :lengths[row, i]].tolist())
            assert record["logp"] == pytest.approx(logp[row, best])
    # A subset each: on average what the exact weights of the order statistics say.
    few = draw(4, 200)
    assert few == draw(4, 200) and few != draw(4, 200, "--seed", 5)
    weights = np.array([math.comb(i, 3) for i in range(32)]) / math.comb(32, 4)
    for row in range(len(prompts)):
        mine = [record["reward"] for record in few[200 * row:200 * (row + 1)]]
        want = (np.sort(rewards[row]) * weights).sum()
        assert abs(np.mean(mine) - want) < 5 * np.std(rewards[row]) / math.sqrt(200)
    one = draw(2, 1, "--prompt", prompts[3])
    assert len(one) == 1 and one[0]["prompt"] == prompts[3]


def test_ties_among_the_best_are_broken_as_asked(toy):
    """Rewards rounded so coarsely that many are equal: a total order has one best of them, uniform takes each as often."""
    ties = ["-s", "reward.round=0.3", "-s", "pool.path=coarse.h5"]
    toy.run("pool", "-c", "toy.yaml", "--quiet", "--split", "train", *ties)
    with h5py.File(toy.folder / "coarse.h5") as file:
        rewards, logp = file["reward/main/value"][()], file["sample/logp_reference"][()]
        tokens, lengths = file["sample/tokens"][()], file["sample/length"][()]
    best = [np.flatnonzero(row == row.max()) for row in rewards]
    different = [{tuple(tokens[row, i, :lengths[row, i]].tolist()) for i in tied} for row, tied in enumerate(best)]
    assert max(map(len, different)) >= 3, "the pool has ties of different texts"
    for rule in ("total_order", "uniform"):
        done = toy.run("sample", "--pool", "coarse.h5", "-s", "model.reference=reference", "-s", f"vbon.ties={rule}", "--json",
                       "--best-of", 32, "-n", 200)
        assert re.search(rf"{200 * len(rewards)} answers, each the best of 32: .* answers/s, \d+ tokens/s", done.stderr), done.stderr
        records = [json.loads(line) for line in done.stdout.splitlines()]
        for row, tied in enumerate(best):
            mine = [record["logp"] for record in records[200 * row:200 * (row + 1)]]
            if rule == "total_order":
                first = max(tied, key=lambda i: tokens[row, i, :lengths[row, i]].tolist())
                assert mine == pytest.approx([logp[row, first]] * 200)
                continue
            for value in np.unique(logp[row, tied]):
                share = np.mean(logp[row, tied] == value)
                assert abs(np.mean(np.isclose(mine, value)) - share) <= 5 * math.sqrt(share * (1 - share) / 200) + 1e-9


@pytest.mark.parametrize("arguments, words", [
    (["--best-of", "33"], ["--best-of 33", "32 samples"]),
    (["-m", "reference"], ["exclude each other"]),
    (["--prompt", "never asked"], ["pool.h5", "lacks"]),
])
def test_what_a_pool_cannot_answer_is_said(toy, arguments, words):
    toy.refused("sample", "--pool", "pool.h5", "-s", "model.reference=reference", *arguments, words=words)


def test_lone_processes_leave_each_other_alone(toy, tmp_path):
    """They start and end beside each other, and MPI's files go with each."""
    for _ in range(3):
        crowd = [toy.start("pool", "-c", "toy.yaml", "--dry-run", "--quiet", environment={"TMPDIR": str(tmp_path)}) for _ in range(8)]
        for process in crowd:
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said
    assert not list(tmp_path.iterdir())


def test_a_run_is_reported(fresh, tmp_path):
    """The page and the samples of what the program wrote, without naming a file of it."""
    for command in ("train", "eval"):
        fresh.run(command, "-c", "toy.yaml", "--quiet")

    def analyse(*arguments, expect=0):
        done = subprocess.run([sys.executable, "-m", "analysis", *arguments], cwd=fresh.folder, text=True, capture_output=True,
                              env=fresh.environment({"PYTHONPATH": str(ROOT)}))
        assert done.returncode == expect, done.stderr
        return done

    picture = tmp_path / "kl-win.png"
    page = fresh.folder / analyse("report", "run", "--picture", str(picture)).stdout.strip()
    html = page.read_text()
    assert picture.stat().st_size > 10_000 and page == fresh.folder / "run/report.html"
    table = json.loads((fresh.folder / "run/eval/final-00000006/summary.json").read_text())
    assert {"policy", "reference"} <= {row["name"] for row in table["rows"]}
    for shown in ("some people", "reference", "best of 4", "Best-of-N"):  # a held-out prompt, and what it is compared with
        assert shown.lower() in html.lower(), shown
    texts = analyse("samples", "run", "-n", "2").stdout
    assert texts.count(" …\n") == 2 and "best of 4, from the pool" in texts
    # The report is one of the run's own files: the next command does not call it a stranger's.
    assert "none of ours" not in fresh.run("eval", "-c", "toy.yaml").stderr
