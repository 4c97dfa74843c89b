"""Commands from outside: help, errors of input, sampling and scoring."""
import json
import subprocess
import sys

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
