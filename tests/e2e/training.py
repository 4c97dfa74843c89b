"""Short training runs, what holds for every online run, and the arithmetic of one step in NumPy."""
import dataclasses
import json
import math

import h5py
import numpy as np

from conftest import metrics, settings, sha256

STEPS = 3


def train(vbon, run, *overrides, ranks=1, **options):
    arguments = ["train.warm_start=0", f"train.steps={STEPS}", "eval.every=0", "checkpoint.every=0", *overrides]
    vbon.run("train", "-c", "toy.yaml", "--quiet", "-s", f"run.dir={run}",
             *settings(*arguments), ranks=ranks, **options)
    return vbon.folder / run


def rollouts(run, step):
    with h5py.File(run / f"rollouts/step-{step:08}.h5") as file:
        return {name: file[name][()] for name in file}


def final(run):
    return sorted((run / "checkpoints").glob("step-*"))[-1]


def check_invariants(run, steps=STEPS, first=0):
    """What holds for every online run."""
    rows = metrics(run)
    assert [row["step"] for row in rows] == list(range(steps)) and (run / "finished").exists()
    for row in rows[first:]:
        assert row["ratio_error"] < 1e-4, "sampler and learner are the same forward"
        assert row["kl"] > -1e-6 and row["entropy"] > 0 and row["grad_norm"] > 0 and row["learning_rate"] > 0
        assert 0 <= row["clip_fraction"] <= 1 and 1 <= row["length"] <= 8 and 0 <= row["finished"] <= 1
        batch = rollouts(run, row["step"])
        inside = np.arange(8) < batch["length"][:, None]
        assert inside.shape == (16, 8) and (batch["weights_version"] == row["step"]).all()
        for name in ("logp_behavior", "logp_reference", "kl", "entropy", "advantage", "returns"):
            assert (np.isfinite(batch[name]) == inside).all(), name
        assert (batch["kl"][inside] > -1e-5).all()
        np.testing.assert_allclose(batch["reward"].mean(), row["reward"], rtol=1e-5)
        np.testing.assert_allclose(np.where(inside, batch["kl"], 0).sum() / 16, row["kl"], rtol=1e-4, atol=1e-6)
        if row["step"] == 0:
            assert row["kl"] < 1e-6, "the policy starts as the reference"
            np.testing.assert_allclose(batch["logp_behavior"], batch["logp_reference"], atol=1e-4)
    assert rows[-1]["kl"] > 1e-7, "and learns"
    for part in json.loads((final(run) / "manifest.json").read_text())["parts"]:
        assert sha256(final(run) / part["name"]) == part["sha256"]
    return rows


@dataclasses.dataclass
class Loop:
    """What the advantages of a step are made of."""
    method: str = "vbon"
    objective: str = "exact"
    estimator: str = "add_one"
    n: float = 4
    baseline: str = "rloo"
    kl_form: str = "exact"
    scale: float | None = None
    kl_coef: float = 0.05
    missing_eos_penalty: float = 0
    whiten: bool = True
    whiten_rewards: bool = False
    gamma: float = 1
    lam: float = 0.95

    def score(self, rewards, reward):
        """One response's score and the weights of KL and entropy."""
        if self.method == "ppo":
            return reward, self.kl_coef, 0
        m, n = len(rewards), self.n
        below, up_to = (rewards < reward).sum(), (rewards <= reward).sum()
        strict, f = below / (m + 1), (up_to + 1) / (m + 1)
        log_f = math.log((below + 1) / (m + 1))
        if self.estimator == "harmonic":
            log_f = -sum(1 / k for k in range(below + 1, m + 1))
        scale = 1 / (n - 1) if self.scale is None else self.scale
        value, kl, entropy = {
            "exact": (math.log((f ** n - strict ** n) / (f - strict)), 1, 0),
            "L": ((n - 1) * log_f, 1, 0),
            "L1": (n * (n - 1) / 2 * log_f, n * (n + 1) / 2, (n + 2) * (n - 1) / 2)}[self.objective]
        return scale * value, scale * kl, scale * entropy

    def advantages(self, batch, table):
        inside = np.arange(8) < batch["length"][:, None]
        columns = {name: np.where(inside, batch[name], 0).astype(float)
                   for name in ("logp_behavior", "logp_reference", "kl", "entropy", "value")}
        scored = [self.score(table[id], reward)
                  for id, reward in zip(batch["prompt_id"].tolist(), batch["reward"].astype(float))]
        score = np.array([s for s, _, _ in scored]) - self.missing_eos_penalty * (batch["finished"] == 0)
        kl, entropy = scored[0][1:]
        cost = kl * (columns["logp_behavior"] - columns["logp_reference"]) - entropy * columns["logp_behavior"]
        if self.kl_form == "exact":
            # A token's own KL has a gradient of its own: its reward holds the KL still to come.
            cost = kl * columns["kl"] + entropy * columns["entropy"]
            cost = np.pad(cost[:, 1:], ((0, 0), (0, 1)))
        rewards = -np.where(inside, cost, 0)
        if self.baseline.startswith("critic"):
            rewards[np.arange(16), batch["length"] - 1] += score
            if self.whiten_rewards:
                mean, sd = rewards[inside].mean(), math.sqrt(rewards[inside].var() + 1e-8)
                rewards = np.where(inside, (rewards - mean) / sd + mean, 0)
            result, running, after = np.zeros_like(rewards), np.zeros(16), np.zeros(16)
            for t in reversed(range(8)):
                delta = rewards[:, t] + self.gamma * after - columns["value"][:, t]
                running = np.where(inside[:, t], delta + self.gamma * self.lam * running, 0)
                after = columns["value"][:, t]
                result[:, t] = running
        else:
            to_come = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
            result = score[:, None] + to_come
            if self.baseline == "rloo":
                groups = result.reshape(4, 4, 8)
                # The others' score and cost to come, each over the same position (0 behind a shorter response's end).
                score_groups, cost_groups = score.reshape(4, 4, 1), to_come.reshape(4, 4, 8)
                others = [(x.sum(1, keepdims=True) - x) / 3 for x in (score_groups, cost_groups)]
                result = (groups - others[0] - others[1]).reshape(16, 8)
        if self.whiten:
            result = (result - result[inside].mean()) / math.sqrt(result[inside].var() + 1e-8)
        return np.where(inside, result, np.nan)
