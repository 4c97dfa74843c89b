"""Pools: the same file however they are made, by any number of ranks and jobs, killed or not."""
import json
import random
import shutil
import signal
import time

import h5py
import numpy as np
import pytest

from conftest import TRAIN, assert_same_contents, h5_contents, kill_all, snapshot, wait_until

POOL = ["pool", "-c", "toy.yaml", "--split", "train", "--quiet"]
SLOWLY = {"TOY_REWARD_SLEEP": "0.006"}  # 32 answers: a chunk takes 0.2 s and more


def without_pool(vbon):
    (vbon.folder / "pool.h5").unlink()
    return vbon


def parts(vbon):
    return sorted((vbon.folder / "pool.h5.parts").glob("chunk-*.h5"))


@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_makes_the_same_pool(fresh, inputs, ranks):
    without_pool(fresh).run(*POOL, ranks=ranks)
    assert_same_contents(fresh.folder / "pool.h5", inputs / "pool.h5")
    assert not (fresh.folder / "pool.h5.parts").exists()


def test_a_pool_is_what_its_contract_says(inputs):
    """Against the prompts, the reward and the tokenizer, without vbon."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(inputs / "reference/tokenizer.json"))
    with h5py.File(inputs / "pool.h5") as file:
        assert file.attrs["format"] == "vbon.pool" and file.attrs["num_samples"] == 32 and file.attrs["seed"] == 3
        assert [text.decode() for text in file["prompt/text"]] == TRAIN and list(file["prompt/id"]) == list(range(8))
        tokens, length, finished = (file[f"sample/{name}"][()] for name in ("tokens", "length", "finished"))
        reward, table = file["reward/main/value"][()], file["logf/main/sorted_reward"][()]
        offset, prompt_tokens = file["prompt/offset"][()], file["prompt/tokens"][()]
        assert (file["sample/logp_reference"][()] < 0).all()
    for row, text in enumerate(TRAIN):
        own = list(prompt_tokens[offset[row]:offset[row + 1]])
        assert own == [0, *tokenizer.encode(text, add_special_tokens=False).ids]
    assert tokens.shape == (8, 32, 8)
    inside = np.arange(8) < length[..., None]
    assert ((tokens >= 0) == inside).all() and (tokens[~inside] == -1).all()
    last = np.take_along_axis(tokens, length[..., None] - 1, axis=2)[..., 0]
    assert ((last == 0) == (finished == 1)).all() and (length[finished == 0] == 8).all()
    assert len({tuple(t) for t in tokens.reshape(-1, 8)}) > 200, "samples are draws of their own"
    np.testing.assert_array_equal(table, np.sort(reward, axis=1))
    for row in range(8):
        for m in range(32):
            said = tokenizer.decode(tokens[row, m, :length[row, m]], skip_special_tokens=True)
            expected = (said.count("e") + 0.5 * said.count("a") - 0.1 * len(said)) / 10
            assert abs(reward[row, m] - expected) < 1.1e-5, said


@pytest.mark.parametrize("ranks", [1, 3])
def test_killed_and_started_again_it_continues(fresh, inputs, ranks):
    without_pool(fresh)
    moments = random.Random(ranks)
    seen, kept = 0, {}
    kills = 4 if ranks == 1 else 3  # three ranks may commit three chunks at once
    for kill in range(kills):
        process = fresh.start(*POOL, ranks=ranks, environment=SLOWLY)
        if kill == 0:
            time.sleep(moments.uniform(0.05, 0.3))
        else:
            wait_until(lambda target=seen + 1: len(parts(fresh)) >= target, process)
            time.sleep(moments.uniform(0, 0.1))
        assert process.poll() is None, "the pool was done before it was killed"
        kill_all(process)
        now = {path.name: path.stat().st_ino for path in parts(fresh)}
        assert kept.items() <= now.items(), "what is committed is not drawn again"
        kept, seen = now, len(now)
    assert kills - 1 <= seen < 8 and not (fresh.folder / "pool.h5").exists()
    fresh.run(*POOL, ranks=ranks)
    assert_same_contents(fresh.folder / "pool.h5", inputs / "pool.h5")
    assert not (fresh.folder / "pool.h5.parts").exists()


def test_a_signal_stops_it_after_the_chunk_and_asks_to_be_requeued(fresh, inputs):
    without_pool(fresh)
    process = fresh.start(*POOL, environment=SLOWLY)
    wait_until(lambda: parts(fresh), process)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 75, process.communicate()[1]
    process.communicate()
    assert 1 <= len(parts(fresh)) < 8
    fresh.run(*POOL)
    assert_same_contents(fresh.folder / "pool.h5", inputs / "pool.h5")


@pytest.mark.parametrize("ranks", [1, 2])
def test_it_stops_before_its_allocation_ends(fresh, inputs, ranks):
    without_pool(fresh)
    done = fresh.run(*POOL[:-1], ranks=ranks, expect=75, environment={"VBON_END_TIME": str(time.time() + 200)})
    assert done.stderr.count("stopped in time: the allocation ends in") == 1
    assert len(parts(fresh)) == ranks, "a chunk of each rank, which is kept"
    fresh.run(*POOL, ranks=ranks, environment={"VBON_END_TIME": str(time.time() + 3600)})
    assert_same_contents(fresh.folder / "pool.h5", inputs / "pool.h5")


@pytest.mark.parametrize("arguments, name", [([], "pool.h5.lock"), (["--shard", "0/2"], "pool.h5.shard-0-of-2.lock")])
def test_a_pool_has_one_job_at_a_time(fresh, inputs, arguments, name):
    without_pool(fresh)
    process = fresh.start(*POOL, *arguments, environment=SLOWLY)
    wait_until(lambda: parts(fresh), process)
    process.send_signal(signal.SIGSTOP)
    refusal = fresh.run(*POOL, *arguments, expect=2).stderr
    assert all(word in refusal for word in ("'pool.h5", "is locked", str(process.pid), name)), refusal
    if arguments:
        fresh.run(*POOL, "--shard", "1/2")
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=60) == 0, process.communicate()[1]
    process.communicate()
    assert not list(fresh.folder.glob("*.lock"))
    fresh.run(*POOL)
    assert_same_contents(fresh.folder / "pool.h5", inputs / "pool.h5")


def test_damaged_parts_are_drawn_again(fresh, inputs):
    without_pool(fresh).run(*POOL, "--shard", "0/2")
    victim = parts(fresh)[1]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    parts(fresh)[2].write_bytes(parts(fresh)[2].read_bytes()[:-100])
    done = fresh.run(*POOL)
    assert victim.name in done.stderr and "damaged" in done.stderr
    assert_same_contents(fresh.folder / "pool.h5", inputs / "pool.h5")


def test_shards_of_several_jobs_merge_to_the_same_pool(fresh, inputs):
    without_pool(fresh)
    for shard, ranks in (("2/3", 1), ("0/3", 2), ("1/3", 1)):
        fresh.run(*POOL, "--shard", shard, "-s", "pool.keep_parts=true", ranks=ranks)
        if shard == "0/3":
            # Two of three are there: 1, 4 and 7 are missing.
            fresh.refused(*POOL, "--merge", "-s", "cluster.file_wait_s=0.2", words=["lacks 3 of 8 chunks", "1, 4, 7"])
    fresh.run(*POOL, "--merge", "-s", "pool.keep_parts=true")
    assert_same_contents(fresh.folder / "pool.h5", inputs / "pool.h5")
    assert len(parts(fresh)) == 8
    before = snapshot(fresh.folder)
    fresh.run(*POOL, "--merge")
    assert snapshot(fresh.folder) == before, "a pool that is there is not made again"


@pytest.fixture(scope="module")
def drawn(toy):
    """All chunks, not merged yet."""
    without_pool(toy)
    for shard in ("0/2", "1/2"):
        toy.run(*POOL, "--shard", shard, "-s", "pool.keep_parts=true")
    (toy.folder / "pool.h5").unlink(missing_ok=True)
    return toy.folder


@pytest.fixture
def unmerged(fresh, drawn):
    shutil.copytree(drawn / "pool.h5.parts", without_pool(fresh).folder / "pool.h5.parts")
    return fresh


def test_parts_of_another_pool_are_not_merged(unmerged):
    """Drawn with another seed, temperature or reward."""
    for change in ("run.seed=4", "sampling.temperature=0.9", "reward.id=v2", "pool.chunk_prompts=2"):
        unmerged.refused(*POOL, "--merge", "-s", change, words=["chunk-000000.h5", "belongs to another pool"])
    assert len(parts(unmerged)) == 8


def test_a_single_foreign_part_is_found(unmerged, inputs):
    other = unmerged.folder / "other.h5"
    unmerged.run(*POOL, "--shard", "5/8", "-s", f"pool.path={other.name}", "-s", "run.seed=4")
    shutil.copy(unmerged.folder / "other.h5.parts/chunk-000005.h5", unmerged.folder / "pool.h5.parts/chunk-000005.h5")
    unmerged.refused(*POOL, "--merge", words=["chunk-000005.h5", "belongs to another pool"])
    unmerged.refused(*POOL, words=["chunk-000005.h5", "belongs to another pool"])


def test_a_part_that_is_there_twice_is_found(unmerged):
    shutil.copy(unmerged.folder / "pool.h5.parts/chunk-000001.h5", unmerged.folder / "pool.h5.parts/chunk-000003.h5")
    unmerged.refused(*POOL, "--merge", words=["chunk-000003.h5"])


@pytest.mark.parametrize("cut", [False, True])
def test_damaged_parts_are_not_merged(unmerged, cut):
    victim = unmerged.folder / "pool.h5.parts/chunk-000004.h5"
    content = bytearray(victim.read_bytes())
    if not cut:
        content[-1000] ^= 4
    victim.write_bytes(content[:-64] if cut else content)
    unmerged.refused(*POOL, "--merge", words=["chunk-000004.h5", "damaged"])


def test_what_others_put_beside_the_parts_stays(unmerged, inputs):
    mine = unmerged.folder / "pool.h5.parts/notes.txt"
    mine.write_text("mine")
    done = unmerged.run("pool", "-c", "toy.yaml", "--split", "train", "--merge")
    assert "notes.txt" in done.stderr and mine.read_text() == "mine" and not parts(unmerged)
    assert_same_contents(unmerged.folder / "pool.h5", inputs / "pool.h5")


@pytest.mark.parametrize("shard", ["3/3", "-1/3", "1", "a/b", "0/0"])
def test_shards_that_are_none(fresh, shard):
    fresh.refused(*POOL, f"--shard={shard}", words=["--shard", shard])


def test_a_second_run_does_nothing(fresh):
    before = snapshot(fresh.folder)
    done = fresh.run("pool", "-c", "toy.yaml", ranks=2)
    assert snapshot(fresh.folder) == before
    assert done.stderr.count("nothing to do") == 2, "the training pool's and the evaluation pool's"


def test_a_pool_of_something_else_is_never_overwritten(fresh):
    for change, word in (("sampling.temperature=0.7", "temperature"), ("sampling.max_new_tokens=7", "max_new_tokens"),
                         ("reward.id=v2", "reward"), ("reward.round=0.001", "reward.round"),
                         ("model.start_token=1", "start_token"), ("pool.samples=64", "32 samples")):
        fresh.refused(*POOL, "-s", change, words=["pool.h5", word])
    (fresh.folder / "pool.h5").write_text(json.dumps({"not": "a pool"}))
    fresh.refused(*POOL, words=["pool.h5", "no HDF5 file"])


def test_pools_of_two_seeds_differ(fresh, inputs):
    fresh.run(*POOL, "-s", "pool.path=other.h5", "-s", "run.seed=4")
    mine, other = h5_contents(fresh.folder / "other.h5"), h5_contents(inputs / "pool.h5")
    assert (mine["prompt/tokens"] == other["prompt/tokens"]).all()
    assert (mine["sample/tokens"] != other["sample/tokens"]).mean() > 0.5
