"""pool.keep_trunk and rollouts.carry_trunk: what enters the first trained block, as the sampler computed it, in the place of
the learner's own run."""
import h5py
import numpy as np
import pytest

from conftest import assert_same_contents, metrics
from training import train

KEEP = ["-s", "pool.keep_trunk=true"]  # the toy has three blocks and trains two


@pytest.fixture(scope="module")
def kept(toy):
    """The toy, with a second pool that keeps the trunk's rows."""
    toy.run("pool", "-c", "toy.yaml", "--quiet", *KEEP, "-s", "pool.path=kept.h5")
    return toy


def test_rows_are_the_hidden_states_of_transformers(kept):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    model = transformers.AutoModelForCausalLM.from_pretrained(kept.folder / "reference", dtype=torch.float32).eval()
    with h5py.File(kept.folder / "kept.h5") as file:
        assert file.attrs["trunk_block"] == 1
        prompt, sample = file["trunk/prompt"][()], file["trunk/sample"][()]
        offset, tokens = file["prompt/offset"][()], file["prompt/tokens"][()]
        drawn, length = file["sample/tokens"][()], file["sample/length"][()]
    assert prompt.shape == (offset[-1], 32) and sample.shape == ((length - 1).sum(), 32)
    begin = 0
    for row in range(len(length)):
        own = tokens[offset[row]:offset[row + 1]]
        for m in range(length.shape[1]):
            run = np.concatenate([own, drawn[row, m, :length[row, m] - 1]])
            with torch.no_grad():
                hidden = model(torch.tensor(run[None]), output_hidden_states=True).hidden_states[1][0].numpy()
            np.testing.assert_allclose(prompt[offset[row]:offset[row + 1]], hidden[:len(own)], atol=2e-5)
            np.testing.assert_allclose(sample[begin:begin + length[row, m] - 1], hidden[len(own):], atol=2e-5)
            begin += length[row, m] - 1


def test_the_pool_is_the_same_otherwise_and_for_any_ranks(kept):
    with h5py.File(kept.folder / "kept.h5") as a, h5py.File(kept.folder / "pool.h5") as b:
        for name in ("sample/tokens", "sample/logp_reference", "reward/main/value", "logf/main/sorted_reward"):
            np.testing.assert_array_equal(a[name][()], b[name][()])
    kept.run("pool", "-c", "toy.yaml", "--quiet", *KEEP, "-s", "pool.path=ranks.h5", ranks=3)
    assert_same_contents(kept.folder / "kept.h5", kept.folder / "ranks.h5")


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("use", [0, 16])
def test_regression_on_kept_rows_is_that_on_rows_run_again(kept, ranks, use):
    common = ["train.method=regression", "train.steps=12", "regression.batch=64", "optimizer.learning_rate=3e-3",
              f"pool.use={use}"]
    again = metrics(train(kept, f"again-{ranks}-{use}", *common, ranks=ranks))
    rows = metrics(train(kept, f"kept-{ranks}-{use}", *common, "pool.path=kept.h5", ranks=ranks))
    assert len(rows) == 12
    for a, b in zip(again, rows):
        assert abs(a["loss"] - b["loss"]) < 1e-3 * a["loss"] and abs(a["grad_norm"] - b["grad_norm"]) < 1e-3 * a["grad_norm"]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_other_layers_run_their_trunk_themselves(kept):
    common = ["train.method=regression", "train.steps=2", "train.layers=last 1"]
    again = metrics(train(kept, "again-last-1", *common))
    rows = metrics(train(kept, "kept-last-1", *common, "pool.path=kept.h5"))
    assert [row["loss"] for row in rows] == [row["loss"] for row in again]


def test_a_pool_that_keeps_another_block_is_refused(kept):
    kept.refused("pool", "-c", "toy.yaml", "--split", "train", *KEEP, "-s", "pool.path=kept.h5", "-s", "train.layers=last 1",
                 words=["kept.h5", "enter block 1", "ask for block 2"])
    kept.refused("pool", "-c", "toy.yaml", "--split", "train", *KEEP, words=["pool.h5", "block 0", "ask for block 1"])


CARRY = "rollouts.carry_trunk=true"


@pytest.mark.parametrize("method", ["vbon", "jbond"])
def test_online_steps_on_carried_rows_are_those_on_rows_run_again(kept, method):
    common = [f"train.method={method}", "train.steps=4", "ppo.baseline=rloo"]
    again = metrics(train(kept, f"online-{method}", *common))
    for ranks in (1, 3):
        run = train(kept, f"carried-{method}-{ranks}", *common, CARRY, ranks=ranks)
        assert [path.name for path in sorted((run / "rollouts").iterdir())] == [f"step-{k:08}.h5" for k in range(4)]
        with h5py.File(run / "rollouts/step-00000003.h5") as file:
            assert "trunk" not in file
        for a, b in zip(again, metrics(run)):
            for key in ("kl", "reward", "ratio_error", "grad_norm"):
                assert abs(a[key] - b[key]) <= 1e-3 * max(abs(a[key]), 1e-2), (ranks, key, a[key], b[key])


def test_evaluations_on_carried_rows_are_those_on_rows_run_again(kept):
    run = train(kept, "evaluated", "train.steps=3", "optimizer.learning_rate=3e-3")
    figures = {}
    for name, more, ranks in (("again", [], 1), ("carried", ["-s", CARRY], 1), ("carried by three", ["-s", CARRY], 3)):
        kept.run("eval", "-c", "toy.yaml", "--quiet", "-s", f"run.dir={run.name}", *more, ranks=ranks)
        with h5py.File(run / "eval/final-00000003/eval.h5") as file:
            figures[name] = file["sample/tokens"][()], file["sample/kl"][()]
    assert figures["again"][1].mean() > 1e-3
    for name, (tokens, kl) in figures.items():
        np.testing.assert_array_equal(tokens, figures["again"][0], err_msg=name)
        np.testing.assert_allclose(kl, figures["again"][1], atol=2e-5, err_msg=name)
