"""The program itself on changed copies of valid files: every command ends by itself with exit 0 or 2, in little memory.

By hand, and slower than fuzz_readers, which goes further: VBON_BUILD=build/current python3 tests/fuzz/fuzz_commands.py FIRST COUNT
"""
import json
import os
import pathlib
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from conftest import BUILD, CONFIG, HELD_OUT, REWARD, TRAIN, make_model, write_jsonl  # noqa: E402

SECONDS = 60  # of processor time
MORE_MEMORY = 512  # MiB, over that of the unchanged files

SCALING = {"format": "vbon.scaling", "schema_version": 1, "ranks": [1, 2], "gradient_bytes": 9408, "relative_error": 0.03,
           "terms": {"fixed": 0.5, "compute": 0.04, "update": 0.02, "latency": 0.1, "bytes": 1e-6},
           "measured_with": {"train.method": "vbon", "sampling.max_new_tokens": 8, "cluster.threads": 0, "x": None}}
GRID = """
config: toy.yaml
dir: sweep
seeds: [1, 2]
runs: [{name: a, product: {vbon.N: [2, 4]}}]
"""
# What is run, and the files that it reads.
MODEL = ["reference/config.json", "reference/tokenizer.json", "reference/model.safetensors"]
COMMANDS = [
    (["plan", "-c", "toy.yaml", "--ranks", "3"], ["toy.yaml", "train.jsonl", "reference/config.json", "reference/tokenizer.json"]),
    (["plan", "-c", "toy.yaml", "--ranks", "2", "-s", "cluster.roles=all", "--model", "scaling.json"], ["scaling.json"]),
    (["train", "-c", "toy.yaml", "--dry-run"], ["toy.yaml", "train.jsonl", "eval.jsonl", "pool.h5", *MODEL]),
    (["sweep", "grid.yaml", "--dry-run"], ["grid.yaml", "toy.yaml"]),
    (["sample", "-m", "reference", "--prompt", "the film", "-n", "1", "--max-new-tokens", "3", "--seed", "1"],
     [*MODEL, "reference/generation_config.json"]),
    (["sample", "--pool", "pool.h5", "-s", "model.reference=reference", "--prompt", "the film is", "-n", "2"], ["pool.h5", "foreign.h5"]),
    (["score", "-c", "ngram.yaml", "--texts", "texts.jsonl"], ["texts.jsonl", "ngram.yaml", "ngram/config.json", "ngram/vocab.json", "ngram/model.safetensors"]),
    (["score", "-c", "classifier.yaml", "--texts", "texts.jsonl"],
     ["classifier/config.json", "classifier/model.safetensors", "classifier/vocab.txt", "classifier/tokenizer.json"]),
]
WORDS = [b"-1", b"0", b"18446744073709551615", b"4294967296", b"1e999", b"null", b"true", b"[]", b"{}", b'""', b"NaN", b"\xff",
         b"[" * 5000, b'{"a":' * 5000, b"1" * 400, b"\0", b"&a *a", b"!!binary x", b"${X"]


def inputs(folder):
    make_model(folder / "reference")
    (folder / "reference/generation_config.json").write_text('{"do_sample": true, "temperature": 0.7, "eos_token_id": 0}')
    (folder / "reward.py").write_text(REWARD)
    (folder / "toy.yaml").write_text(CONFIG.replace("PYTHON", sys.executable))
    (folder / "grid.yaml").write_text(GRID)
    (folder / "scaling.json").write_text(json.dumps(SCALING))
    for name, texts in (("train", TRAIN), ("eval", HELD_OUT)):
        write_jsonl(folder / f"{name}.jsonl", [{"id": i, "prompt": text} for i, text in enumerate(texts)])
    write_jsonl(folder / "texts.jsonl", [{"text": "a very good film"}, {"prompt": "this is", "response": "bad"}])
    ngram = folder / "ngram"
    ngram.mkdir()
    (ngram / "config.json").write_text('{"model_type": "vbon_ngram", "order": 2, "prefix": 3}')
    (ngram / "vocab.json").write_text('{"good": 0, "very good": 1}')
    header = json.dumps({"weight": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}, "bias": {"dtype": "F64", "shape": [1], "data_offsets": [16, 24]}}).encode()
    (ngram / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<3d", 1, 2, 0.5))
    (folder / "ngram.yaml").write_text("reward: {kind: ngram, path: ngram}\n")
    shutil.copytree(ROOT / "tests/golden/reward/classifier", folder / "classifier")
    (folder / "classifier.yaml").write_text("reward: {kind: classifier, path: classifier}\n")
    ended = run(folder, ["pool", "-c", "toy.yaml", "--quiet"])[0]
    assert ended == 0, "no pool"


def run(folder, command):
    """Exit status (negative: signal), MiB, what was said."""
    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen([pathlib.Path(BUILD).resolve() / "bin/vbon", *command], cwd=folder, stdout=said, stderr=subprocess.STDOUT,
                                 stdin=subprocess.DEVNULL, preexec_fn=limit, env={**os.environ, "OMP_NUM_THREADS": "1"})
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return child.returncode, usage.ru_maxrss // 1024, said.read().decode(errors="replace")


def change(content, chance):
    bytes_ = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(len(bytes_) + 1)
        size = min(chance.choice([1, 4, 30, 1000]), len(bytes_) - at)
        kind = chance.randrange(7)
        if kind == 0 and bytes_:
            bytes_[chance.randrange(len(bytes_))] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del bytes_[at:]
        elif kind == 2:
            del bytes_[at:at + size]
        elif kind == 3:
            bytes_[at:at] = bytes_[at:at + size] * chance.choice([1, 1, 100])
        elif kind == 4:
            bytes_[at:at] = chance.choice(WORDS)
        elif kind == 5:
            number = chance.choice([0, 1, 0x7F, 0xFF, 0xFFFF, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
            bytes_[at:at + 8] = struct.pack("<Q", number)[:max(0, min(8, len(bytes_) - at))]
        else:
            digits = [i for i, byte in enumerate(bytes_[:4000]) if 48 <= byte <= 57]
            if digits:
                place = chance.choice(digits)
                bytes_[place:place + 1] = chance.choice(WORDS)
    return bytes(bytes_)


def main(first, count):
    ends, faults = {}, 0
    with tempfile.TemporaryDirectory() as name:
        valid = pathlib.Path(name) / "valid"
        valid.mkdir()
        inputs(valid)
        (valid / "foreign.h5").write_bytes((valid / "pool.h5").read_bytes()[512:])
        usual = {}
        for k, (command, _) in enumerate(COMMANDS):
            code, usual[k], said = run(valid, command)
            assert code == 0, f"{command}: {said}"
        for number in range(first, first + count):
            chance = random.Random(number)
            k = number % len(COMMANDS)
            command, files = COMMANDS[k]
            folder = pathlib.Path(name) / "input"
            shutil.copytree(valid, folder)
            file = chance.choice([f for f in files if (folder / f).exists()])
            if file == "foreign.h5":  # a pool of another program
                (folder / "foreign.h5").replace(folder / "pool.h5")
                file = "pool.h5"
            (folder / file).write_bytes(change((folder / file).read_bytes(), chance))
            code, memory, said = run(folder, command)
            ends[command[0], code] = ends.get((command[0], code), 0) + 1
            if code not in (0, 2) or memory > usual[k] + MORE_MEMORY or len(said) > 100_000:
                faults += 1
                print(f"FAULT: exit {code}, {memory} MiB: vbon {' '.join(command)} with {file} changed\n{said[:2000]}\n"
                      f"  again: {sys.argv[0]} {number} 1", file=sys.stderr)
            shutil.rmtree(folder)
    for (command, code), times in sorted(ends.items()):
        print(f"{command:8} exit {code}: {times}")
    print(f"{count} inputs, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
