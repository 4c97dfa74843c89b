"""Every method, objective, baseline and KL form: runs to the end, and what it recorded is what its formula says.

The formulas are written out in NumPy (training.py), from the columns of the rollouts and the pool's rewards.
"""
import json
import math
import signal

import h5py
import numpy as np
import pytest

from conftest import metrics, metrics_without_time, settings, sha256, some, wait_until
from training import STEPS, Loop, check_invariants, final, rollouts, train


@pytest.fixture(scope="module")
def table(inputs):
    """Sorted rewards of every training prompt, by prompt id."""
    with h5py.File(inputs / "pool.h5") as file:
        return dict(zip(file["prompt/id"][()].tolist(), file["logf/main/sorted_reward"][()]))


VBON = [
    ("exact", [], Loop()),
    ("exact_penalty", ["ppo.kl_form=penalty"], Loop(kl_form="penalty")),
    ("L", ["vbon.objective=L"], Loop(objective="L")),
    ("L_harmonic", ["vbon.objective=L", "vbon.estimator=harmonic", "ppo.kl_form=penalty"],
     Loop(objective="L", estimator="harmonic", kl_form="penalty")),
    ("L1", ["vbon.objective=L1"], Loop(objective="L1")),
    ("L1_penalty", ["vbon.objective=L1", "ppo.kl_form=penalty"], Loop(objective="L1", kl_form="penalty")),
    ("real_N", ["vbon.N=2.5"], Loop(n=2.5)),
    ("real_N_L", ["vbon.N=2.5", "vbon.objective=L"], Loop(n=2.5, objective="L")),
    ("scale", ["vbon.scale=1", "ppo.whiten_advantages=false"], Loop(scale=1, whiten=False)),
    ("no_baseline", ["ppo.baseline=none"], Loop(baseline="none")),
    ("cut_costs", ["ppo.missing_eos=penalty", "ppo.missing_eos_penalty=0.7", "ppo.whiten_advantages=false"],
     Loop(missing_eos_penalty=0.7, whiten=False)),
    ("critic_head", ["ppo.baseline=critic_head"], Loop(baseline="critic_head")),
    ("critic_head_L1_penalty", ["ppo.baseline=critic_head", "ppo.kl_form=penalty", "vbon.objective=L1", "ppo.lam=1"],
     Loop(baseline="critic_head", kl_form="penalty", objective="L1", lam=1)),
    ("critic_model", ["ppo.baseline=critic_model", "ppo.lam=0.5"], Loop(baseline="critic_model", lam=0.5)),
]
PPO = [
    ("ppo", ["ppo.kl_coef=0.2"], Loop(method="ppo", kl_coef=0.2)),
    ("ppo_none", ["ppo.baseline=none", "ppo.whiten_advantages=false"], Loop(method="ppo", baseline="none", whiten=False)),
    ("ppo_textbook", ["ppo.baseline=critic_head", "ppo.kl_form=penalty", "ppo.whiten_rewards=true", "ppo.gamma=0.9"],
     Loop(method="ppo", baseline="critic_head", kl_form="penalty", whiten_rewards=True, gamma=0.9)),
    ("ppo_critic_model_cut_costs", ["ppo.baseline=critic_model", "ppo.missing_eos=penalty"],
     Loop(method="ppo", baseline="critic_model", missing_eos_penalty=1)),
]


@pytest.mark.parametrize("name, overrides, loop", VBON + PPO, ids=[case[0] for case in VBON + PPO])
def test_advantages_are_what_the_formula_says(toy, table, name, overrides, loop):
    run = train(toy, name, f"train.method={loop.method}", *overrides)
    rows = check_invariants(run)
    for row in rows:
        batch = rollouts(run, row["step"])
        if loop.baseline.startswith("critic"):
            assert (np.isfinite(batch["value"]) == np.isfinite(batch["kl"])).all() and row["value_loss"] > 0
        else:
            assert np.isnan(batch["value"]).all() and "value_loss" not in row
        # The sampled KL is of the learner's own log-probabilities, which differ from the sampler's by rounding.
        np.testing.assert_allclose(batch["advantage"], loop.advantages(batch, table), rtol=2e-3, atol=2e-3)
        if loop.method == "vbon":
            log_w = [Loop(n=loop.n, scale=1).score(table[id], r)[0]
                     for id, r in zip(batch["prompt_id"].tolist(), batch["reward"].astype(float))]
            np.testing.assert_allclose(row["kl_to_bon"], row["kl"] - np.mean(log_w), rtol=1e-4, atol=1e-5)
        else:
            assert row["kl_coef"] == loop.kl_coef and "kl_to_bon" not in row
    has_critic = loop.baseline.startswith("critic")
    assert (final(run) / "state/critic.safetensors").exists() == has_critic
    if has_critic:
        assert np.nanmax(np.abs(rollouts(run, STEPS - 1)["value"])) > 0, "the critic has learned something"


@pytest.mark.parametrize("estimator", ["interpolated", "exponential"])
def test_smooth_estimators_rank_as_rewards_do(toy, table, estimator):
    run = train(toy, estimator, "vbon.objective=L", f"vbon.estimator={estimator}")
    check_invariants(run)
    batch = rollouts(run, 0)
    assert (batch["log_f"] <= 1e-6).all() and (batch["log_f"] >= -2 * math.log(33) - 1e-5).all()
    for id in set(batch["prompt_id"].tolist()):
        own = batch["prompt_id"] == id
        order = np.argsort(batch["reward"][own], kind="stable")
        assert (np.diff(batch["log_f"][own][order]) >= -1e-6).all()
        for reward, log_f in zip(batch["reward"][own], batch["log_f"][own]):
            assert abs(math.exp(log_f) - (table[id] <= reward).mean()) < 0.35, "near the share of the pool below"


def test_ppo_without_a_pool_needs_none(fresh):
    (fresh.folder / "pool.h5").unlink()
    run = train(fresh, "bare", "train.method=ppo", 'pool.path=""')
    rows = check_invariants(run)
    assert "log_f" not in rows[0] and "win" not in rows[0]


def test_adaptive_kl_moves_towards_its_target(toy):
    run = train(toy, "adaptive", "train.method=ppo", "ppo.adaptive_kl=true", "ppo.kl_coef=0.1", "ppo.kl_target=0.001",
                "ppo.kl_horizon=64", "train.steps=6")
    rows = check_invariants(run, steps=6)
    assert rows[0]["kl_coef"] == 0.1
    for row, following in zip(rows, rows[1:]):
        error = min(0.2, max(-0.2, row["kl"] / 0.001 - 1))
        assert following["kl_coef"] == pytest.approx(row["kl_coef"] * (1 + error * 16 / 64), rel=1e-9)
    assert rows[1]["kl_coef"] < 0.1 < max(row["kl_coef"] for row in rows[2:]) or rows[-1]["kl_coef"] > rows[1]["kl_coef"]


def test_minibatches_and_micro_batches(toy):
    """Micro-batches change memory, not results; minibatches are updates of their own."""
    whole = train(toy, "micro32", "ppo.epochs=1", "train.steps=1")
    small = train(toy, "micro3", "ppo.epochs=1", "train.steps=1", "train.micro_batch=3")
    a, b = rollouts(whole, 0), rollouts(small, 0)
    for name in ("tokens", "reward", "log_f"):
        np.testing.assert_array_equal(a[name], b[name])
    assert weights_apart(whole, small) < 1e-5
    parts = train(toy, "minibatches", "train.minibatches=4", "ppo.epochs=3", "train.steps=2")
    check_invariants(parts, steps=2)
    counters = json.loads((final(parts) / "state/counters.json").read_text())
    assert counters["optimizer_steps"] == 2 * 3 * 4


def weights(folder):
    from safetensors.numpy import load_file
    return load_file(folder / "model.safetensors")


def weights_apart(a, b):
    one, other = weights(final(a) / "policy"), weights(final(b) / "policy")
    assert one.keys() == other.keys()
    return max(np.abs(one[name] - other[name]).max() for name in one)


def test_last_layers_alone_are_trained(toy):
    before = weights(toy.folder / "reference")
    trained = {}
    for layers in ("last 1", "all"):
        run = train(toy, f"layers-{layers.split()[-1]}", f"train.layers={layers}")
        after = weights(final(run) / "policy")
        trained[layers] = {name for name in before if (before[name] != after[name]).any()}
    assert trained["all"] == set(before)
    assert trained["last 1"] == {name for name in before if ".layers.2." in name or name == "model.norm.weight"}


def test_N_of_one_stays_at_the_reference(toy):
    run = train(toy, "n-one", "vbon.N=1")
    before, after = weights(toy.folder / "reference"), weights(final(run) / "policy")
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert all(row["grad_norm"] == 0 and row["kl"] < 1e-6 for row in metrics(run))


def test_beta_is_another_way_to_give_N(toy):
    by_n = train(toy, "by-n", "vbon.N=5")
    by_beta = train(toy, "by-beta", "vbon.N=none", "vbon.beta=0.25")
    assert sha256(final(by_n) / "policy/model.safetensors") == sha256(final(by_beta) / "policy/model.safetensors")
    other = train(toy, "by-other-n", "vbon.N=6")
    assert sha256(final(by_n) / "policy/model.safetensors") != sha256(final(other) / "policy/model.safetensors")


# Regression.

def own_log_weights(table, n):
    """log w_N of each pool sample against the others of its prompt."""
    found = []
    for rewards in table.values():
        for reward in rewards:
            below, up_to = (rewards < reward).sum(), (rewards <= reward).sum() - 1
            strict, f = below / len(rewards), (up_to + 1) / len(rewards)
            found.append(math.log((f ** n - strict ** n) / (f - strict)))
    return np.array(found)


@pytest.mark.parametrize("center", [False, True])
def test_regression_alone_approaches_the_target(toy, table, center):
    run = train(toy, f"regression-{center}", "train.method=regression", "train.steps=30", "regression.batch=256",
                "optimizer.learning_rate=5e-3", "regression.clip_residual=0", "regression.samples_per_prompt=32",
                f"regression.center={str(center).lower()}")
    rows = metrics(run)
    target = own_log_weights(table, 4).reshape(8, 32)  # of each prompt's samples
    if center:
        target -= target.mean(axis=1, keepdims=True)
    # At the first update the policy is the reference: the residual is the target itself, over the whole pool.
    assert rows[0]["residual"] == pytest.approx(np.abs(target).mean(), rel=1e-4)
    assert rows[0]["loss"] == pytest.approx((target ** 2).mean(), rel=1e-4)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert not list((run / "rollouts").glob("step-*")), "regression draws nothing"
    assert (run / "finished").exists()


def test_warm_start_goes_before_the_loop(toy):
    run = train(toy, "warm", "train.warm_start=2", "train.steps=5", "regression.learning_rate=2e-3", "regression.warmup=1",
                "optimizer.schedule=constant")
    rows = check_invariants(run, steps=5, first=2)
    assert ["residual" in row for row in rows] == [True, True, False, False, False]
    assert rows[0]["learning_rate"] == pytest.approx(1e-3) and rows[1]["learning_rate"] == pytest.approx(2e-3)
    assert rows[2]["learning_rate"] == pytest.approx(1e-3) and rows[2]["kl"] > 1e-5
    assert json.loads((final(run) / "state/counters.json").read_text())["optimizer_steps"] == 3 * 2, "an optimiser of its own"
    cold = train(toy, "cold", "optimizer.schedule=constant")
    # The draws of the loop are keyed by the step, so the same prompts and randomness meet another policy.
    np.testing.assert_array_equal(rollouts(run, 2)["prompt_id"], rollouts(cold, 2)["prompt_id"])


# Ranks.

@pytest.fixture(scope="module")
def alone(toy):
    return train(toy, "alone", *CRITIC, "train.steps=2"), train(toy, "alone-first", *CRITIC, "train.steps=1", "ppo.epochs=1")


CRITIC = ["train.method=ppo", "ppo.baseline=critic_head", "ppo.kl_form=penalty"]


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_any_number_of_ranks_with_one_learner_gives_the_same_critic_and_policy(toy, alone, ranks):
    run = train(toy, f"critic-{ranks}", *CRITIC, "train.steps=2", ranks=ranks)
    check_invariants(run, steps=2)
    for part in ("policy/model.safetensors", "state/critic.safetensors", "state/optimizer.safetensors"):
        assert sha256(final(run) / part) == sha256(final(alone[0]) / part)


@pytest.mark.parametrize("ranks, roles", [(6, "auto"), (2, "all"), (4, "{rollout: 1, scorer: 0, learner: 3}")])
def test_several_learners_make_the_same_first_update(toy, alone, ranks, roles):
    run = train(toy, f"learners-{ranks}", *CRITIC, "train.steps=1", "ppo.epochs=1", f"cluster.roles={roles}", ranks=ranks)
    check_roles = json.loads((final(run) / "manifest.json").read_text())
    assert check_roles["world_size"] == ranks
    a, b = rollouts(run, 0), rollouts(alone[1], 0)
    for name in ("tokens", "length", "reward", "prompt_id"):
        np.testing.assert_array_equal(a[name], b[name])
    np.testing.assert_allclose(a["advantage"], b["advantage"], rtol=1e-4, atol=1e-5)
    assert 0 < weights_apart(run, alone[1]) < 1e-5 or weights_apart(run, alone[1]) == 0


# Resume: what a method keeps beside the weights comes back, too.

@pytest.mark.parametrize("name, overrides", some([
    ("critic-model", ["train.method=ppo", "ppo.baseline=critic_model", "ppo.adaptive_kl=true", "ppo.kl_target=0.01", "ppo.kl_horizon=100"]),
    ("critic-head", ["ppo.baseline=critic_head", "ppo.kl_form=penalty", "train.minibatches=2"]),
    ("regression-only", ["train.method=regression", "optimizer.schedule=cosine"]),
    ("dpo", ["train.method=dpo", "preference.labels=sampled", "preference.batch=8"]),
    ("jbond", ["train.method=jbond", "anchor.rate=0.3"]),
    ("bond-anchor", ["train.method=bond", "bond.quantile=anchor", "anchor.samples=4", "anchor.every=3", "anchor.rate=1"]),
    ("schedule", ["vbon.N_start=1", "vbon.N_steps=8"]),
]))
def test_stopped_and_resumed_it_ends_the_same(toy, name, overrides):
    overrides = [*overrides, "train.steps=12"]
    whole = train(toy, f"{name}-whole", *overrides)
    run = toy.folder / f"{name}-stopped"
    arguments = ["train.warm_start=0", "eval.every=0", "checkpoint.every=0", f"run.dir={run.name}", *overrides]
    process = toy.start("train", "-c", "toy.yaml", "--quiet", *settings(*arguments),
                        environment={"TOY_REWARD_SLEEP": "0.004"})
    wait_until(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") >= 2, process)
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert train(toy, run.name, *overrides) == run
    for part in json.loads((final(whole) / "manifest.json").read_text())["parts"]:
        assert sha256(final(run) / part["name"]) == part["sha256"], part["name"]
    assert metrics_without_time(run / "metrics.jsonl") == metrics_without_time(whole / "metrics.jsonl")


@pytest.mark.parametrize("overrides, words", [
    (["cluster.lag=2"], ["cluster.lag is 2", "0", "1"]),
    (["vbon.objective=L1", "vbon.N=2.5"], ["L1", "2.5", "integer"]),
    (["vbon.N=4", "vbon.beta=0.5"], ["vbon.N", "vbon.beta"]),
    (["ppo.kl_coef=0.1"], ["ppo.kl_coef", "vbon.N"]),
    (["ppo.adaptive_kl=true"], ["ppo.adaptive_kl", "ppo"]),
    (["ppo.gamma=0.9"], ["ppo.gamma"]),
    (["ppo.whiten_rewards=true", "ppo.baseline=critic_head", "ppo.kl_form=penalty"], ["ppo.whiten_rewards"]),
    (["train.samples_per_prompt=1"], ["rloo", "samples"]),
    (["train.method=ppo", "ppo.gamma=0.9"], ["ppo.gamma", "critic"]),
    (["train.method=grpo"], ["train.method", "grpo", "vbon, ppo"]),
    (["train.method=bonbon", "vbon.N=2.5"], ["vbon.N is 2.5", "bonbon", "integer"]),
    (["train.method=bon_sft", "vbon.N=64"], ["vbon.N is 64", "32 samples", "larger pool"]),
    (["train.method=dpo", "preference.beta=0"], ["preference.beta is 0"]),
    (["train.method=jbond", "anchor.samples=3"], ["anchor.samples is 3", "two"]),
    (["train.method=jeffreys", "mixture.b=1.5"], ["mixture.b is 1.5"]),
    (["vbon.target=poisson", "vbon.objective=L"], ["vbon.objective", "exact"]),
])
def test_combinations_that_would_change_N_or_do_not_exist_are_refused(toy, overrides, words):
    arguments = settings(*overrides, "run.dir=never")
    toy.refused("train", "-c", "toy.yaml", *arguments, words=words)


@pytest.fixture(scope="module")
def tied(toy):
    """Pools of a reward of few values."""
    toy.ties = ["reward.round=0.3", "pool.path=pool-ties.h5", "pool.eval_path=pool-ties-eval.h5"]
    toy.run("pool", "-c", "toy.yaml", "--quiet", *settings(*toy.ties))
    return toy


def ordered(rewards, tokens, lengths):
    """What the order of appendix C compares: reward, then token ids, a beginning before what it begins."""
    return [(float(r), tuple(t[:n].tolist())) for r, t, n in zip(rewards, tokens, lengths)]


@pytest.mark.parametrize("objective", ["exact", "L"])
def test_a_total_order_breaks_ties_by_tokens(tied, objective):
    runs = [train(tied, f"ties-{ties}-{objective}", *tied.ties, f"vbon.ties={ties}", f"vbon.objective={objective}", "train.warm_start=1")
            for ties in ("uniform", "total_order")]
    assert sha256(final(runs[0]) / "policy/model.safetensors") != sha256(final(runs[1]) / "policy/model.safetensors")
    with h5py.File(tied.folder / "pool-ties.h5") as file:
        columns = (file[name][()] for name in ("prompt/id", "reward/main/value", "sample/tokens", "sample/length"))
        tables = {int(id): ordered(*row) for id, *row in zip(*columns)}
    assert min(len({r for r, _ in row}) for row in tables.values()) < 16, "rewards tie"
    batch, row = rollouts(runs[1], 1), metrics(runs[1])[1]
    log_f, log_w, differ = [], [], 0
    for id, mine in zip(batch["prompt_id"].tolist(), ordered(batch["reward"], batch["tokens"], batch["length"])):
        below, up_to = sum(other < mine for other in tables[id]), sum(other <= mine for other in tables[id])
        differ += below != sum(other[0] < mine[0] for other in tables[id])
        log_f.append(math.log((below + 1) / 33))
        strict, whole = below / 33, (up_to + 1) / 33
        log_w.append(math.log((whole ** 4 - strict ** 4) / (whole - strict)))
    assert differ > 3
    np.testing.assert_allclose(batch["log_f"], log_f, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(row["kl_to_bon"], row["kl"] - np.mean(log_w), rtol=1e-4, atol=1e-5)


def test_a_total_order_is_for_methods_that_have_one(toy):
    toy.refused("train", "-c", "toy.yaml", "-s", "run.dir=refused", "-s", "vbon.ties=total_order", "-s", "train.method=bon_sft",
                words=["total_order", "methods vbon, regression", "bon_sft"])
