"""Disks that are full and places that cannot be written: exit 74, what is committed survives, resume ends the same."""
import os
import shutil
import stat
import subprocess

import pytest

from conftest import assert_same_contents, metrics, metrics_without_time, sha256, snapshot, some

TRAIN = ["train", "-c", "toy.yaml", "--quiet"]
POOL = ["pool", "-c", "toy.yaml", "--quiet", "--split", "train"]
FINAL = "checkpoints/step-00000006"
PRLIMIT = shutil.which("prlimit")
# Shared memory between ranks is files, too, which a limit on the size of files forbids.
WITHOUT_SHARED_MEMORY = {"OMPI_MCA_btl": "self,tcp", "OMPI_MCA_btl_tcp_if_include": "lo"}


def limited(size):
    """As on a full disk: no file of a rank grows beyond this."""
    if PRLIMIT is None:
        pytest.skip("needs prlimit (util-linux)")
    return {"under": [PRLIMIT, f"--fsize={size}"], "environment": WITHOUT_SHARED_MEMORY, "expect": 74}


@pytest.fixture(scope="module")
def whole(toy):
    toy.run(*TRAIN, "-s", "run.dir=whole")
    return toy.folder / "whole"


def assert_ends_as(whole, run):
    for part in ("policy/model.safetensors", "state/optimizer.safetensors", "state/counters.json"):
        assert sha256(run / FINAL / part) == sha256(whole / FINAL / part)
    assert metrics_without_time(run / "metrics.jsonl") == metrics_without_time(whole / "metrics.jsonl")
    for path in [*whole.glob("rollouts/step-*.h5"), *whole.glob("eval/step-*.h5")]:
        assert_same_contents(run / path.relative_to(whole), path)
    assert not [path for path in run.rglob("*") if path.name.endswith(".tmp") or ".chunk-" in path.name], "no rests"
    assert (run / "finished").exists() and not (run / "lock").exists()


@pytest.mark.parametrize("ranks, what", some([
    (3, "chunk"), (1, "config.yaml"), (1, "metrics.jsonl"), (1, f"{FINAL}/state/optimizer.safetensors"), (1, "chunk"),
    (1, "eval/step-00000000.h5"), (3, f"{FINAL}/policy/model.safetensors")]))
def test_a_disk_that_is_full_while_training(fresh, whole, ranks, what):
    """Everything smaller than the file in question can be written."""
    size = {"metrics.jsonl": 4000, "chunk": 5000}.get(what) or (whole / what).stat().st_size
    inputs = snapshot(fresh.folder)
    done = fresh.run(*TRAIN, ranks=ranks, **limited(size - 100))
    assert "File too large" in done.stderr and "free space" in done.stderr and "run/" in done.stderr
    run = fresh.folder / "run"
    assert inputs.items() <= snapshot(fresh.folder).items()
    kept = {path: sha256(path) for path in run.rglob("manifest.json")}
    # Another try on the disk that is still full fails as the first did, and takes nothing away.
    fresh.run(*TRAIN, ranks=ranks, **limited(size - 100))
    assert {path: sha256(path) for path in run.rglob("manifest.json")} == kept
    fresh.run(*TRAIN, ranks=ranks)
    assert_ends_as(whole, run)


SMALL_DISK = """
set -e
mount -t tmpfs -o size=SIZEk none run
"$@" || echo "first: $?"
ls run/checkpoints > kept
mount -o remount,size=16m run
"$@" || echo "second: $?"
cp -a run copy
"""


def test_a_disk_that_fills_up_late(fresh, whole):
    """Room for two of the checkpoints after 2, 3, 4 and 6 steps: the run ends at the third, and goes on with more room."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small disk (unshare -m)")
    checkpoint = sum(path.stat().st_size for path in (whole / FINAL).rglob("*") if path.is_file())
    (fresh.folder / "run").mkdir()
    settings = ["-s", "checkpoint.every=2", "-s", "checkpoint.keep=all"]
    script = SMALL_DISK.replace("SIZE", str(int(2.7 * checkpoint) // 1024 + 250))
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", *fresh.command(*TRAIN, *settings)], cwd=fresh.folder,
                          env=fresh.environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "first: 74\n" and "No space left on device" in done.stderr and "free space" in done.stderr
    assert (fresh.folder / "kept").read_text().split()[:2] == ["step-00000002", "step-00000003"]
    assert_ends_as(whole, fresh.folder / "copy")


@pytest.mark.parametrize("share", [0.9, 0.3])
def test_a_disk_that_is_full_while_the_pool_is_made(fresh, inputs, share):
    """Chunks are smaller than the pool: with 0.9 of its size all are drawn and stay, and merging waits for room."""
    size = (inputs / "pool.h5").stat().st_size
    (fresh.folder / "pool.h5").unlink()
    before = snapshot(fresh.folder)
    fresh.run(*POOL, "-s", "pool.keep_parts=true", "-s", "pool.path=probe.h5")
    chunk = max(path.stat().st_size for path in (fresh.folder / "probe.h5.parts").iterdir())
    shutil.rmtree(fresh.folder / "probe.h5.parts")
    (fresh.folder / "probe.h5").unlink()
    assert chunk < 0.9 * size
    limit = int(0.9 * size) if share == 0.9 else chunk - 100
    done = fresh.run(*POOL, **limited(limit))
    assert "File too large" in done.stderr and "pool.h5" in done.stderr
    parts = sorted((fresh.folder / "pool.h5.parts").iterdir())
    assert len(parts) == (8 if share == 0.9 else 0) and not (fresh.folder / "pool.h5").exists()
    assert before.items() <= snapshot(fresh.folder).items()
    kept = {path: path.stat().st_ino for path in parts}
    fresh.run(*POOL, "-s", "pool.keep_parts=true")
    assert all(path.stat().st_ino == inode for path, inode in kept.items()), "no chunk was drawn again"
    assert_same_contents(fresh.folder / "pool.h5", inputs / "pool.h5")


def test_other_commands_on_a_full_disk(toy, whole):
    out = toy.folder / "out.jsonl"
    (toy.folder / "texts.jsonl").write_text('{"text": "a film"}\n' * 200)
    toy.run("score", "-c", "toy.yaml", "--texts", "texts.jsonl", "-o", out, **limited(300))
    assert not out.exists()
    before = snapshot(whole)
    done = toy.run("eval", "-c", "toy.yaml", "--quiet", "-s", "run.dir=whole", **limited(3000))
    assert "File too large" in done.stderr
    assert before.items() <= snapshot(whole).items() and not (whole / "eval/final-00000006/eval.h5").exists()
    toy.run("sft", "-c", "toy.yaml", "--quiet", "-s", "model.base=reference", "-s", "model.reference=tuned", "-s", "sft.text=texts.jsonl",
            "-s", "sft.max_texts=4", **limited(20000))
    assert not (toy.folder / "tuned/model.safetensors").exists()


@pytest.mark.parametrize("arguments", [
    ["score", "-c", "toy.yaml", "--texts", "texts.jsonl"],
    ["sample", "-m", "reference", "--prompt", "the film", "-n", "20"],
    ["help", "config"],
    ["plan", "-c", "toy.yaml", "--ranks", "3"],
    ["eval", "-c", "toy.yaml", "--quiet", "-s", "eval.checkpoint=reference", "-s", "run.dir=evaluated"],
])
def test_results_that_cannot_be_printed(toy, arguments):
    """Standard output on a full disk: who reads the file must not take half of it for the whole."""
    (toy.folder / "texts.jsonl").write_text('{"text": "a film"}\n' * 5)
    with open("/dev/full", "w") as full:
        done = subprocess.run(toy.command(*arguments), cwd=toy.folder, env=toy.environment(), stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 74 and "standard output" in done.stderr and "No space left" in done.stderr, done.stderr


# Places that cannot be written. Root may write everywhere, unless it gives that up.

def without_privilege():
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("runs as root, and needs setpriv (util-linux) to do without its privileges")
    return [setpriv, "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture
def sealed():
    """Takes away the right to write to folders; gives it back for the cleaning up."""
    changed = []

    def seal(path):
        changed.append((path, stat.S_IMODE(path.stat().st_mode)))
        path.chmod(0o555)

    yield seal
    for path, mode in changed:
        path.chmod(mode)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_folder_that_may_not_be_written(fresh, sealed, whole, ranks):
    parent = fresh.folder / "results"
    parent.mkdir()
    sealed(parent)
    settings = ["-s", "run.dir=results/run"]
    done = fresh.run(*TRAIN, *settings, expect=74, under=without_privilege(), ranks=ranks)
    assert "results/run" in done.stderr and "Permission denied" in done.stderr and "writable" in done.stderr
    assert not list(parent.iterdir())
    parent.chmod(0o755)
    fresh.run(*TRAIN, *settings, ranks=ranks)
    assert sha256(parent / "run" / FINAL / "policy/model.safetensors") == sha256(whole / FINAL / "policy/model.safetensors")


@pytest.mark.parametrize("place", ["rollouts", "checkpoints", "eval", "."])
def test_a_part_of_the_run_folder_that_may_not_be_written(fresh, sealed, whole, place):
    run = fresh.folder / "run"
    (run / place).mkdir(parents=True, exist_ok=True)
    # A run of ours: what its first start leaves behind.
    shutil.copy(whole / "config.yaml", run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("whole", "run"))
    sealed(run / place)
    done = fresh.run(*TRAIN, expect=74, under=without_privilege())
    assert "Permission denied" in done.stderr and f"run/{place}".removesuffix("/.") in done.stderr
    (run / place).chmod(0o755)
    fresh.run(*TRAIN)
    assert_ends_as(whole, run)


def test_a_pool_that_may_not_be_written(fresh, sealed, inputs):
    folder = fresh.folder / "pools"
    folder.mkdir()
    sealed(folder)
    done = fresh.run(*POOL, "-s", "pool.path=pools/new.h5", expect=74, under=without_privilege())
    assert "pools/new.h5" in done.stderr and "Permission denied" in done.stderr
    folder.chmod(0o755)
    fresh.run(*POOL, "-s", "pool.path=pools/new.h5")
    assert_same_contents(folder / "new.h5", inputs / "pool.h5")


@pytest.mark.parametrize("place", ["rollouts", "checkpoints", "eval", "metrics.h5"])
def test_something_else_in_the_place_of_an_output(fresh, whole, place):
    """A file where a folder belongs, or the other way round: neither is removed to make room."""
    run = fresh.folder / "run"
    run.mkdir()
    shutil.copy(whole / "config.yaml", run)
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("whole", "run"))
    if place == "metrics.h5":
        (run / place).mkdir()
        (run / place / "mine").write_text("mine")
    else:
        (run / place).write_text("mine")
    done = fresh.run(*TRAIN, expect=74)
    assert f"run/{place}" in done.stderr
    assert (run / place / "mine" if place == "metrics.h5" else run / place).read_text() == "mine"
    shutil.rmtree(run / place) if place == "metrics.h5" else (run / place).unlink()
    fresh.run(*TRAIN)
    assert_ends_as(whole, run)
    assert len(metrics(run)) == 6
