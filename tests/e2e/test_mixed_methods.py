"""Online methods of both directions of the KL, and of an anchor that follows the policy; other targets and schedules."""
import math

import h5py
import numpy as np
import pytest

from conftest import metrics, sha256
from training import Loop, check_invariants, final, rollouts, train


@pytest.fixture(scope="module")
def table(inputs):
    with h5py.File(inputs / "pool.h5") as file:
        return dict(zip(file["prompt/id"][()].tolist(), file["logf/main/sorted_reward"][()]))


def test_jeffreys_mixes_imitation_into_the_vbon_step(toy, table):
    alone = check_invariants(train(toy, "jeffreys-1", "train.method=jeffreys", "mixture.b=1"))
    vbon = check_invariants(train(toy, "jeffreys-vbon"))
    assert [row["kl"] for row in alone] == [row["kl"] for row in vbon] and "imitated_nll" not in alone[0]
    run = train(toy, "jeffreys", "train.method=jeffreys", "mixture.samples=0")
    rows = check_invariants(run)
    np.testing.assert_allclose(rollouts(run, 0)["advantage"], Loop().advantages(rollouts(run, 0), table), rtol=2e-3, atol=2e-3)
    assert all(row["imitated_nll"] > 0 for row in rows)
    forward = train(toy, "jeffreys-0", "train.method=jeffreys", "mixture.b=0", "mixture.samples=0", "train.steps=8")
    rows = check_invariants(forward, steps=8)
    assert rows[-1]["imitated_nll"] < rows[0]["imitated_nll"] + 5, "prompts differ between steps"
    drawn = check_invariants(train(toy, "jeffreys-drawn", "train.method=jeffreys", "mixture.samples=1"))
    assert drawn[0]["imitated_nll"] != rows[0]["imitated_nll"]


def test_bond_rewards_the_quantile(toy, table):
    run = train(toy, "bond", "train.method=bond", "ppo.whiten_advantages=false", "ppo.baseline=none")
    check_invariants(run)
    batch = rollouts(run, 0)
    loop = Loop(baseline="none", whiten=False)
    loop.score = lambda rewards, reward: (math.log(((rewards <= reward).sum() + 1) / (len(rewards) + 1)), 1 / 3, 0)
    np.testing.assert_allclose(batch["advantage"], loop.advantages(batch, table), rtol=2e-3, atol=2e-3)
    full = train(toy, "bond-full", "train.method=bond", "bond.reward=full")
    jeffreys = train(toy, "bond-jeffreys", "train.method=jeffreys")
    assert sha256(final(full) / "policy/model.safetensors") == sha256(final(jeffreys) / "policy/model.safetensors")


def both(run, step):
    batch = rollouts(run, step)
    return [{name: values[batch["source"] == source] for name, values in batch.items()} for source in (0, 1)]


def test_jbond_may_imitate_alone(toy):
    rows = metrics(train(toy, "jbond-imitates", "train.method=jbond", "mixture.b=0", "bond.gamma=0"))
    assert len(rows) == 3 and all(row["imitated_nll"] > 0 and row["grad_norm"] > 0 for row in rows)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_jbond_compares_with_two_samples_of_the_anchor(fresh, ranks):
    (fresh.folder / "pool.h5").unlink()
    run = train(fresh, f"jbond-{ranks}", "train.method=jbond", 'pool.path=""', "ppo.baseline=none", "anchor.rate=0.5",
                "ppo.whiten_advantages=false", "ppo.kl_form=penalty", "vbon.N=null", "train.steps=4", ranks=ranks)
    rows = metrics(run)
    assert len(rows) == 4 and "kl_to_bon" not in rows[0] and "log_f" not in rows[0]
    for step in range(4):
        policy, anchor = both(run, step)
        assert len(policy["reward"]) == 16 and len(anchor["reward"]) == 8
        assert (anchor["prompt_id"].reshape(4, 2) == policy["prompt_id"].reshape(4, 4)[:, :1]).all()
        assert np.isnan(anchor["advantage"]).all() and np.isnan(anchor["kl"]).all()
        worst = anchor["reward"].reshape(4, 2).min(axis=1).repeat(4)
        score = np.where(policy["reward"] < worst, -math.log(16), 0)
        if step == 0:  # the anchor is the reference
            inside = np.arange(8) < policy["length"][:, None]
            cost = np.where(inside, policy["logp_behavior"] - policy["logp_reference"], 0)
            want = score[:, None] - np.cumsum(cost[:, ::-1], axis=1)[:, ::-1]
            np.testing.assert_allclose(policy["advantage"][inside], want[inside], rtol=2e-3, atol=2e-3)
    assert 0 < rows[-1]["kl_to_anchor"] < rows[-1]["kl"], "the anchor follows the policy"
    if ranks > 1:
        whole = train(fresh, "jbond-whole", "train.method=jbond", 'pool.path=""', "ppo.baseline=none", "anchor.rate=0.5",
                      "ppo.whiten_advantages=false", "ppo.kl_form=penalty", "vbon.N=null", "train.steps=4")
        for part in ("policy/model.safetensors", "state/anchor.safetensors"):
            assert sha256(final(run) / part) == sha256(final(whole) / part)


def test_bond_on_an_anchor_that_jumps(toy):
    run = train(toy, "bond-anchor", "train.method=bond", "bond.quantile=anchor", "anchor.samples=4", "anchor.rate=1",
                "anchor.every=2", "train.steps=5")
    rows = metrics(run)
    assert rows[0]["kl_to_anchor"] < 1e-6 and rows[1]["kl_to_anchor"] > 1e-6
    assert rows[2]["kl_to_anchor"] < 1e-6 < rows[2]["kl"], "it is the policy's own copy again"


@pytest.mark.parametrize("target", ["exp_tilt", "poisson"])
def test_other_targets_change_the_score(toy, target):
    run = train(toy, f"target-{target}", f"vbon.target={target}", "ppo.baseline=none", "ppo.whiten_advantages=false")
    rows = check_invariants(run)
    assert "kl_to_target" in rows[0] and "kl_to_bon" not in rows[0]
    regression = metrics(train(toy, f"regression-{target}", "train.method=regression", f"vbon.target={target}",
                               "regression.batch=256", "regression.samples_per_prompt=32", "regression.clip_residual=0"))
    bon = metrics(train(toy, f"regression-bon-{target}", "train.method=regression", "regression.batch=256",
                        "regression.samples_per_prompt=32", "regression.clip_residual=0"))
    assert regression[0]["loss"] < bon[0]["loss"], "both are milder than Best-of-N on bad responses"


def test_schedule_of_n(toy, table):
    run = train(toy, "n-schedule", "vbon.N=16", "vbon.N_start=1", "vbon.N_steps=4", "train.steps=6", "ppo.baseline=none",
                "ppo.whiten_advantages=false")
    rows = metrics(run)
    assert [round(row["n"], 9) for row in rows] == [1, 2, 4, 8, 16, 16]
    assert np.nanmax(np.abs(rollouts(run, 0)["advantage"])) == 0, "the best of one is the reference: nothing to do"
    batch = rollouts(run, 2)
    np.testing.assert_allclose(batch["advantage"], Loop(n=4, baseline="none", whiten=False).advantages(batch, table),
                               rtol=2e-3, atol=2e-3)
