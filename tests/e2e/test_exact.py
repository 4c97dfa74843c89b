"""eval.exact on the enumerable model of configs/small: every figure again from transformers' log-probabilities, the
reward program's own function, and sums over all responses in NumPy."""
import importlib.util
import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from conftest import ROOT, settings, some

STUDY = ROOT / "configs/small/enumerable"
BETA = 0.5


@pytest.fixture(scope="module")
def study(toy):
    """The study's model and programs beside the toy's files, with a pool and one trained policy."""
    (toy.folder / "configs").mkdir()
    (toy.folder / "configs/small").symlink_to(ROOT / "configs/small")
    subprocess.run([sys.executable, STUDY / "make.py", toy.folder / "runs/enumerable/model"], check=True)
    return toy


def run(study, name, *overrides):
    arguments = settings("pool.samples=256", "train.steps=20", f"run.dir=runs/{name}", *overrides)
    study.run("run", "-c", "configs/small/enumerable/base.yaml", "--quiet", *arguments)
    folder = study.folder / "runs" / name
    summary = json.loads(next((folder / "eval").rglob("summary.json")).read_text())
    return summary["exact"], sorted((folder / "checkpoints").glob("step-*"))[-1] / "policy"


def responses():
    """Token ids; 0 ends, four at most."""
    for length in range(4):
        for letters in itertools.product((1, 2, 3), repeat=length):
            yield [*letters, 0]
    yield from (list(letters) for letters in itertools.product((1, 2, 3), repeat=4))


def log_probabilities(folder, prompt):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for response in responses():
        ids = torch.tensor([[1 + "abc".index(letter) for letter in prompt] + response])
        with torch.no_grad():
            logp = torch.log_softmax(model(ids).logits[0].double(), -1)
        found.append(sum(logp[len(prompt) - 1 + t, token].item() for t, token in enumerate(response)))
    return np.array(found)


def reward_function():
    spec = importlib.util.spec_from_file_location("reward", STUDY / "reward.py")
    module = importlib.util.module_from_spec(spec)
    stdin, sys.stdin = sys.stdin, []
    try:
        spec.loader.exec_module(module)
    finally:
        sys.stdin = stdin
    return module.reward


def kl(log_p, log_q):
    return (np.exp(log_p) * (log_p - log_q)).sum()


def normalised(log_p):
    return log_p - np.log(np.exp(log_p).sum())


@pytest.mark.parametrize("method, overrides", some([
    ("vbon", []), ("ppo", [f"ppo.kl_coef={BETA}"]), ("ipo", [f"preference.beta={BETA}", "preference.labels=hard"])]))
def test_figures_are_sums_over_every_response(study, method, overrides):
    exact, policy = run(study, f"exact-{method}", f"train.method={method}", *overrides)
    reward = reward_function()
    want = {}

    def add(name, value):
        want[name] = want.get(name, 0) + value / 4

    for prompt in ("ab", "ca", "bc", "ba"):
        log_pi, log_ref = log_probabilities(policy, prompt), log_probabilities(study.folder / "runs/enumerable/model", prompt)
        pi, ref = np.exp(log_pi), np.exp(log_ref)
        assert pi.sum() == pytest.approx(1, abs=1e-5) and ref.sum() == pytest.approx(1, abs=1e-5)
        texts = ["".join("abc"[token - 1] for token in response if token) for response in responses()]
        r = np.array([np.float32(round(reward(prompt, text) / 1e-5) * 1e-5) for text in texts]).astype(float)
        strict = np.array([ref[r < x].sum() for x in r])
        whole = strict + np.array([ref[r == x].sum() for x in r])
        with np.errstate(divide="ignore"):  # where n leaves nothing of a response
            log_bon, *others = (log_ref + np.log((whole ** n - strict ** n) / (whole - strict)) for n in (4, *np.geomspace(1, 1e4, 2000)))
        middle = (strict + whole) / 2
        optimum = {"vbon": log_bon, "ppo": normalised(log_ref + r / BETA), "ipo": normalised(log_ref + middle / BETA)}[method]
        add("kl", kl(log_pi, log_ref))
        add("win", (pi * middle).sum())
        add("reward", (pi * r).sum())
        add("reference_reward", (ref * r).sum())
        add("kl_to_optimum", kl(log_pi, optimum))
        add("kl_to_nearest_bon", min(kl(log_pi, other) for other in others))
        if method == "vbon":
            add("kl_to_target", kl(log_pi, log_bon))
        add("bon_4.kl", kl(log_bon, log_ref))
        add("bon_4.win", (np.exp(log_bon) * middle).sum())
    for name, value in want.items():
        assert exact[name] == pytest.approx(value, rel=2e-4, abs=2e-5), name
    assert ("kl_to_target" in exact) == (method == "vbon") and exact["kl"] > 1e-3
    assert math.isfinite(exact["effective_n"]) and exact["effective_n"] > 1


def test_models_that_cannot_be_listed_are_refused(toy, short_eval):
    toy.refused("eval", "-c", "toy.yaml", *short_eval, "-s", "eval.exact=true", words=["eval.exact", "more than", "small enough"])
    toy.refused("eval", "-c", "toy.yaml", *short_eval, "-s", "eval.exact=true", words=["eval.exact", "one rank"], ranks=2)


@pytest.fixture(scope="module")
def short_eval(toy):
    return ["-s", "eval.checkpoint=reference", "-s", "run.dir=null-check"]
