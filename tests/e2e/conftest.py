"""The binary on toy models: what a user runs, checked from outside. Needs VBON_BUILD (ctest gives it)."""
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ.get("VBON_BUILD")

REWARD = """
import sys, json
for line in sys.stdin:
    text = json.loads(line)["response"]
    print(json.dumps({"reward": (text.count("e") + 0.5 * text.count("a") - 0.1 * len(text)) / 10}), flush=True)
"""


def pytest_collection_modifyitems(items):
    if BUILD is None:
        for item in items:
            if "e2e" in str(item.fspath):
                item.add_marker(pytest.mark.skip(reason="runs under ctest (label e2e), which names the build"))


class Vbon:
    """Runs commands in a scratch folder, on one thread, and remembers nothing."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.binary = pathlib.Path(BUILD) / "bin" / "vbon"
        self.environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")

    def command(self, *arguments, ranks=1):
        line = [str(self.binary), *map(str, arguments)]
        return line if ranks == 1 else [str(ROOT / "jobs" / "mpirun.sh"), "-n", str(ranks), *line]

    def start(self, *arguments, ranks=1, **options):
        return subprocess.Popen(self.command(*arguments, ranks=ranks), cwd=self.folder, env=self.environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options)

    def run(self, *arguments, ranks=1, expect=0, timeout=120, **options):
        done = subprocess.run(self.command(*arguments, ranks=ranks), cwd=self.folder, env=self.environment,
                              capture_output=True, text=True, timeout=timeout, **options)
        assert done.returncode == expect, f"exit {done.returncode}, not {expect}\n{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A folder with a random reference, prompts, an exec reward, and pools."""
    folder = tmp_path_factory.mktemp("toy")
    make_toy = pathlib.Path(BUILD) / "tests" / "support" / "make_toy"
    tokenizer = ROOT / "tests" / "golden" / "text" / "smollm2"
    subprocess.run([make_toy, folder / "reference", tokenizer, "1"], check=True)
    (folder / "reward.py").write_text(REWARD)
    train = ["the film is", "a movie that", "this is a", "it has been", "one of the", "an actor who", "what a story", "in the end"]
    held = ["some people", "we know that", "the best part", "never mind"]
    for name, texts in (("train", train), ("eval", held)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"id": i, "prompt": t}) + "\n" for i, t in enumerate(texts)))
    (folder / "toy.yaml").write_text(f"""
run: {{dir: run, seed: 3}}
model: {{reference: reference, start_token: 0}}
reward: {{kind: exec, command: [{sys.executable}, {folder / "reward.py"}], id: v1}}
prompts: {{train: train.jsonl, eval: eval.jsonl}}
sampling: {{temperature: 1.0, max_new_tokens: 8, slots: 16}}
pool: {{path: pool.h5, eval_path: pool-eval.h5, samples: 32}}
train: {{method: vbon, layers: last 2, steps: 6, prompts_per_step: 4, samples_per_prompt: 4, warm_start: 2, chunk_prompts: 1}}
vbon: {{N: 4}}
ppo: {{baseline: rloo, kl_form: exact, epochs: 2}}
optimizer: {{learning_rate: 1e-3}}
eval: {{every: 3, samples: 8, bon_n: [2, 4]}}
checkpoint: {{every: 2}}
cluster: {{threads: 1, comm_checks: true}}
""")
    vbon = Vbon(folder)
    vbon.run("pool", "-c", "toy.yaml", "--quiet")
    return vbon


def sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def metrics_without_time(path: pathlib.Path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row.pop("time")
    return rows
