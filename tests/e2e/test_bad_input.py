"""Input that cannot be right: exit 2 in seconds, a message that names the culprit, and not a file touched."""
import json
import shutil
import struct

import h5py
import numpy as np
import pytest

from conftest import make_model, metrics, settings, some, write_jsonl

TRAIN = ["train", "-c", "toy.yaml", "--quiet"]
POOL = ["pool", "-c", "toy.yaml", "--quiet", "-s", "pool.path=new.h5", "--split", "train"]


# Configurations.

@pytest.mark.parametrize("override, words", some([
    ("sampling.temprature=1", ["sampling.temprature", "did you mean 'sampling.temperature'"]),
    ("trian.steps=3", ["trian", "did you mean 'train"]),
    ("train.temperature=1", ["train.temperature", "did you mean 'sampling.temperature'"]),
    ("vbon.n=4", ["vbon.n", "did you mean 'vbon.N'"]),
    ("reward.train.ngram.ordr=2", ["reward.train.ngram.ordr", "did you mean 'reward.train.ngram.order'"]),
    ("train.steps=many", ["train.steps", "whole number", "many"]),
    ("train.steps=1.5", ["train.steps", "whole number", "1.5"]),
    ("train.steps=99999999999999999999", ["train.steps", "99999999999999999999"]),
    ("run.seed=[1, 2]", ["run.seed", "whole number"]),
    ("sampling.temperature=hot", ["sampling.temperature", "number", "hot"]),
    ("sampling.temperature=-1", ["sampling.temperature", "-1"]),
    ("sampling.temperature=nan", ["sampling.temperature"]),
    ("cluster.comm_checks=maybe", ["cluster.comm_checks", "true or false", "maybe"]),
    ("vbon.objective=best", ["vbon.objective", "best", "exact", "L1"]),
    ("train.layers=last", ["train.layers", "last K"]),
    ("train.layers=last 4", ["layers", "last 4", "3"]),
    ("cluster.roles=everyone", ["cluster.roles", "auto", "{rollout: R, scorer: S, learner: L}"]),
    ("checkpoint.keep=first 2", ["checkpoint.keep", "last K"]),
    ("prompts.train={a: 1}", ["prompts.train"]),
    ("vbon.N=0.5", ["vbon.N is 0.5", ">= 1"]),
    ("vbon.N=inf", ["vbon.N"]),
    ("vbon.beta=0", ["vbon.beta"]),
    ("pool.samples=1", ["pool.samples is 1", "2"]),
    ("pool.use=1", ["pool.use is 1", "2"]),
    ("pool.use=33", ["pool.use is 33", "32"]),
    ("train.prompts_per_step=9", ["train.prompts_per_step is 9", "8 prompts"]),
    ("train.warm_start=7", ["train.warm_start is 7", "6"]),
    ("train.minibatches=17", ["train.minibatches is 17", "16"]),
    ("sampling.max_new_tokens=0", ["sampling.max_new_tokens", "0"]),
    ("eval.bon_n=[2, 0.5]", ["eval.bon_n", "0.5"]),
    ("reward.id=\"\"", ["reward.id", "version"]),
    ("reward.command=[]", ["reward.command"]),
    ("reward.kind=classifier", ["reward.path", "reward.command"]),
    ("run.dir=none.yaml/run", ["none.yaml"]),
]))
def test_values_that_cannot_be(toy, override, words):
    if override.startswith("run.dir"):
        (toy.folder / "none.yaml").write_text("a file")
        toy.refused(*TRAIN, "-s", override, words=words, expect=74)  # not a wrong value, but a place that cannot be written
    else:
        toy.refused(*TRAIN, "-s", override, *settings("run.dir=never"), words=words)


def test_what_has_no_default_is_asked_for(toy):
    text = (toy.folder / "toy.yaml").read_text()
    (toy.folder / "bare.yaml").write_text(text.replace("run: {dir: run, seed: 3}\n", "").replace("reference: reference, ", ""))
    toy.refused("train", "-c", "bare.yaml", words=["run.dir", "run.seed", "model.reference"])


def test_all_errors_come_at_once(toy):
    text = (toy.folder / "toy.yaml").read_text()
    (toy.folder / "wrong.yaml").write_text(text.replace("slots", "slotz").replace("samples: 32", "samples: few")
                                           .replace("N: 4", "N: four").replace("seed: 3", "seed: 3, sede: 4"))
    done = toy.refused("train", "-c", "wrong.yaml", *settings("train.stesp=3"),
                       words=["sampling.slotz", "'pool.samples'", "'vbon.N'", "run.sede", "train.stesp", "wrong.yaml:2"])
    assert "command line" in done.stderr
    toy.refused(*TRAIN, *settings("run.dir=never", "vbon.N=0.5", "pool.samples=1", "train.steps=0", "optimizer.beta1=1", "reward.round=2"),
                words=["vbon.N", "pool.samples", "train.steps", "optimizer.beta1", "reward.round"])


@pytest.mark.parametrize("files, words", some([
    ({"a.yaml": "include: b.yaml\n", "b.yaml": "include: c.yaml\n", "c.yaml": "include: a.yaml\n"}, ["cycle", "a.yaml -> b.yaml -> c.yaml -> a.yaml"]),
    ({"a.yaml": "include: a.yaml\n"}, ["cycle", "a.yaml -> a.yaml"]),
    ({"a.yaml": "include: [toy.yaml, gone.yaml]\n"}, ["gone.yaml", "a.yaml"]),
    ({"a.yaml": "include: toy.yaml\nvbon: {N: 4\n"}, ["a.yaml"]),
    ({"a.yaml": "include: toy.yaml\nvbon: {N: 4}\nvbon: {N: 8}\n"}, ["a.yaml", "vbon"]),
    ({"a.yaml": "just a text\n"}, ["a.yaml", "key: value"]),
    ({"a.yaml": "include: toy.yaml\nvbon: 4\n"}, ["vbon", "key: value"]),
    ({"a.yaml": ""}, ["run.dir", "run.seed"]),
]))
def test_files_of_settings_that_cannot_be_read(fresh, files, words):
    for name, text in files.items():
        (fresh.folder / name).write_text(text)
    fresh.refused("train", "-c", "a.yaml", words=words)


def test_settings_that_are_no_text(fresh):
    (fresh.folder / "a.yaml").write_bytes(b"run: {dir: \xff\xfe}\n")
    fresh.refused("train", "-c", "a.yaml", words=["a.yaml", "UTF-8"])
    (fresh.folder / "a.yaml").write_text("a: " + "[" * 100000)
    fresh.refused("train", "-c", "a.yaml", words=["a.yaml"])
    fresh.refused("train", "-c", "reference", words=["'reference'", "folder"])


@pytest.mark.parametrize("arguments, words", some([
    (["train", "-c", "missing.yaml"], ["missing.yaml"]),
    ([*TRAIN, "-s", "prompts.train=gone.jsonl"], ["gone.jsonl"]),
    ([*TRAIN, "-s", "prompts.eval=gone.jsonl"], ["gone.jsonl"]),
    ([*TRAIN, "-s", "model.reference=gone"], ["'gone'", "folder"]),
    ([*TRAIN, "-s", "pool.path=gone.h5"], ["gone.h5"]),
    ([*TRAIN, "-s", "pool.eval_path=gone.h5"], ["gone.h5"]),
    ([*TRAIN, "-s", "reward.command=[no-such-program]"], ["no-such-program"]),
    ([*TRAIN, "-s", "reward={kind: classifier, command: [], path: gone}"], ["gone"]),
    (["eval", "-c", "toy.yaml"], ["'run'", "no valid checkpoint"]),
    (["eval", "-c", "toy.yaml", "-s", "eval.checkpoint=gone"], ["gone"]),
    (["sample", "-m", "gone", "--prompt", "a"], ["gone"]),
    (["score", "-c", "toy.yaml", "--texts", "gone.jsonl"], ["gone.jsonl"]),
    (["sft", "-c", "toy.yaml", *settings("model.base=reference", "model.reference=new", "sft.text=gone.jsonl")], ["gone.jsonl"]),
    (["plan", "-c", "toy.yaml", "--ranks", "3", "-s", "model.reference=gone"], ["gone"]),
]))
def test_files_that_are_not_there(toy, arguments, words):
    toy.refused(*arguments, words=words)


# Prompts and texts.

@pytest.mark.parametrize("content, words", some([
    (b"", ["train.jsonl", "no prompts"]),
    (b"\n \n", ["train.jsonl", "no prompts"]),
    (b'{"prompt": ""}\n', ["train.jsonl:1", "empty"]),
    (b'{"prompt": "a film"}\n{"text": "a film"}\n', ["train.jsonl:2", "'prompt' is missing"]),
    (b'{"prompt": "a film"}\n{"prompt": "a', ["train.jsonl:2", "JSON"]),
    (b'{"prompt": 5}\n', ["train.jsonl:1", "'prompt'", "string"]),
    (b'["a film"]\n', ["train.jsonl:1", "object"]),
    (b'{"prompt": "a film", "id": 3}\n{"prompt": "it", "id": 4}\n{"prompt": "the", "id": 3}\n', ["train.jsonl:3", "id 3", "line 1"]),
    (b'{"prompt": "a film", "id": -1}\n', ["train.jsonl:1", "'id'", "-1"]),
    (b'{"prompt": "a film", "id": 1.5}\n', ["train.jsonl:1", "'id'", "1.5"]),
    (b'{"prompt": "a fi\xff\xfem"}\n', ["train.jsonl:1", "UTF-8"]),
    (b'{"prompt": "a fi\xed\xa0\x80m"}\n', ["train.jsonl:1", "UTF-8"]),
    (json.dumps({"prompt": "the film " * 200, "id": 17}).encode() + b"\n", ["train.jsonl", "prompt 17", "128 positions", "max_new_tokens"]),
    (b"\x89HDF\r\n\x1a\n" + bytes(4000), ["train.jsonl:1", "UTF-8"]),
]))
def test_prompts(fresh, content, words):
    (fresh.folder / "train.jsonl").write_bytes(content)
    fresh.refused(*POOL, words=words)


def test_every_bad_prompt_is_counted(fresh):
    (fresh.folder / "train.jsonl").write_text("".join(f'{{"prompt": ""}}\n{{"prompt": "a{i}"}}\n' for i in range(20)))
    fresh.refused(*POOL, words=["20 bad lines", "train.jsonl:1:", "train.jsonl:9:", "15 more"])


@pytest.mark.parametrize("record, words", some([
    ({"text": "a", "response": "b"}, ["texts.jsonl:1"]),
    ({"label": 1}, ["texts.jsonl:1", "'text'"]),
    ({"text": ""}, ["texts.jsonl:1", "empty"]),
]))
def test_texts_to_score(fresh, record, words):
    write_jsonl(fresh.folder / "texts.jsonl", [record])
    fresh.refused("score", "-c", "toy.yaml", "--texts", "texts.jsonl", words=words)


# Model folders.

def weights_file(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("name, damage, words", some([
    ("tokenizer.json", None, ["tokenizer.json"]),
    ("tokenizer.json", lambda old: old[:5000], ["tokenizer.json"]),
    ("tokenizer.json", lambda _: b'{"model": {"type": "Unigram", "vocab": []}}', ["tokenizer.json", "Unigram"]),
    ("config.json", None, ["config.json"]),
    ("config.json", lambda old: old[:40], ["config.json", "JSON"]),
    ("config.json", lambda _: b"[]", ["config.json", "object"]),
    ("model.safetensors", None, ["model.safetensors"]),
    ("model.safetensors", lambda _: b"", ["model.safetensors"]),
    ("model.safetensors", lambda old: old[:-4], ["model.safetensors", "truncated"]),
    ("model.safetensors", lambda old: old[:200], ["model.safetensors", "truncated"]),
    ("model.safetensors", lambda old: old + b"more", ["model.safetensors", "damaged"]),
    ("model.safetensors", lambda old: struct.pack("<Q", 1 << 60) + old[8:], ["model.safetensors"]),
    ("model.safetensors", lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ["model.safetensors"]),
    ("model.safetensors", lambda old: old.replace(b'"F32"', b'"F31"', 1), ["model.safetensors", "F31"]),
    ("model.safetensors", lambda old: old.replace(b"model.norm.weight", b"model.nrom.weight"), ["model.norm.weight"]),
    ("model.safetensors", lambda _: weights_file({"a": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}}, bytes(4)),
     ["model.safetensors", "'a'"]),
    ("model.safetensors", lambda _: weights_file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)), ["'a'"]),
    ("model.safetensors", lambda _: weights_file(b"[" * 5000), ["model.safetensors"]),
]))
def test_damaged_model_folders(fresh, name, damage, words):
    path = fresh.folder / "reference" / name
    content = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage(content))
    fresh.refused(*POOL, words=words)


def change_config(vbon, **changes):
    path = vbon.folder / "reference/config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


@pytest.mark.parametrize("changes, words", some([
    ({"model_type": "mamba"}, ["mamba", "llama, gpt2, gpt_neox"]),
    ({"model_type": "bert"}, ["bert", "llama, gpt2, gpt_neox"]),
    ({"model_type": ...}, ["model_type"]),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}, ["yarn", "default, linear, llama3"]),
    ({"rope_parameters": ..., "rope_scaling": {"type": "dynamic", "factor": 2.0}}, ["dynamic", "default, linear, llama3"]),
    ({"hidden_act": "tanhshrink"}, ["tanhshrink", "silu"]),
    ({"quantization_config": {"bits": 4}}, ["quantised"]),
    ({"hidden_size": 48}, ["48", "config.json"]),
    ({"num_hidden_layers": 4}, ["layers.3", "config.json"]),
    ({"num_attention_heads": 8, "head_dim": 8}, ["q_proj", "config.json"]),
    ({"num_key_value_heads": 3}, ["4 heads", "3 key-value heads"]),
    ({"vocab_size": 100}, ["100"]),
    ({"vocab_size": 1100}, ["1100"]),
    ({"hidden_size": -1}, ["hidden_size", "-1"]),
    ({"intermediate_size": 1e99}, ["intermediate_size"]),
    ({"hidden_size": "big"}, ["hidden_size"]),
    ({"eos_token_id": 5000}, ["eos_token_id", "5000"]),
    ({"eos_token_id": "end"}, ["eos_token_id"]),
    ({"max_position_embeddings": 10}, ["10 positions", "8 new tokens"]),
    ({"rms_norm_eps": 0}, ["epsilon"]),
]))
def test_configurations_of_models(fresh, changes, words):
    change_config(fresh, **changes)
    fresh.refused(*POOL, words=words)


@pytest.mark.parametrize("index, words", some([
    ({"weight_map": {"model.norm.weight": "../../outside.safetensors"}}, ["outside.safetensors", "own folder"]),
    ({"weight_map": {"model.norm.weight": "/etc/passwd"}}, ["/etc/passwd", "own folder"]),
    ({"weight_map": {"model.norm.weight": ".."}}, ["own folder"]),
    ({"weight_map": {"model.norm.weight": "shard-2.safetensors"}}, ["shard-2.safetensors"]),
    ({"weight_map": {"model.nrom.weight": "shard-1.safetensors"}}, ["shard-1.safetensors", "model.nrom.weight"]),
    ({"weight_map": {"model.norm.weight": "shard-1.safetensors"}}, ["model.embed_tokens.weight"]),
    ({"weight_map": {}}, ["weight_map"]),
    ({"weight_map": {"model.norm.weight": 3}}, ["model.norm.weight"]),
    ([], ["weight_map"]),
]))
def test_indexes_of_shards(fresh, index, words):
    reference = fresh.folder / "reference"
    shutil.copy(reference / "model.safetensors", fresh.folder / "outside.safetensors")
    (reference / "model.safetensors").rename(reference / "shard-1.safetensors")
    (reference / "model.safetensors.index.json").write_text(json.dumps(index))
    fresh.refused(*POOL, words=words)


def test_weights_that_are_no_numbers(fresh):
    from safetensors.numpy import load_file, save_file
    path = fresh.folder / "reference/model.safetensors"
    weights = load_file(path)
    weights["model.layers.1.mlp.down_proj.weight"][3, 5] = np.nan
    save_file(weights, path)
    fresh.refused(*POOL, words=["not finite", "weights"])


def test_a_tokenizer_of_another_model(fresh):
    make_model(fresh.folder / "other", tokenizer="neox")
    for name, size in (("other", 1104), ("reference", None)):
        found = json.loads((fresh.folder / name / "config.json").read_text())["vocab_size"]
        assert size is None or found != size
    shutil.copy(fresh.folder / "other/tokenizer.json", fresh.folder / "reference/tokenizer.json")
    fresh.refused(*TRAIN, words=["tokenizer"])


# Pools.

@pytest.mark.parametrize("changes, words", some([
    (["model.reference=other"], ["reference"]),
    (["reward.id=v2"], ["reward"]),
    (["sampling.temperature=0.5"], ["temperature: 0.5 here, 1 in the file"]),
    (["sampling.max_new_tokens=7"], ["max_new_tokens", "7 here, 8 in the file"]),
    (["reward.round=0.01"], ["reward.round"]),
    (["model.start_token=1"], ["model.start_token: 1 here, 0 in the file"]),
    (["pool.path=pool-eval.h5"], ["pool-eval.h5", "prompt set"]),
    (["sampling.temperature=0.5", "reward.id=v2"], ["temperature", "reward"]),
]))
def test_pools_of_something_else(fresh, changes, words):
    if changes[0].startswith("model.reference"):
        make_model(fresh.folder / "other", seed=2)
    fresh.refused(*TRAIN, *settings("run.dir=never", *changes), words=[*words, "vbon pool", "--force"])
    fresh.refused("eval", "-c", "toy.yaml", *settings("run.dir=never", "eval.checkpoint=reference",
                                                      *(c.replace("pool.path=pool-eval.h5", "pool.eval_path=pool.h5") for c in changes)),
                  words=[words[-1] if "eval" not in words[0] else "prompt set"])


def test_a_pool_used_by_force_is_recorded(fresh):
    done = fresh.run(*TRAIN, "--force", *settings("sampling.temperature=0.9", "train.steps=1", "train.warm_start=0", "eval.every=0"))
    assert "temperature" in done.stderr
    with h5py.File(fresh.folder / "run/rollouts/step-00000000.h5") as file:
        assert "temperature: 0.9 here, 1 in the file" in file.attrs["forced"]


def rewritten(source, target, change):
    """A copy without the checksum of ours, as another program might write it."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        for name in old:
            old.copy(name, new)
        for name, value in old.attrs.items():
            if name != "content_sha256":
                new.attrs[name] = value
        change(new)


def drop(file, name):
    del file[name]


def replace(file, name, values):
    del file[name]
    file[name] = values


def unsorted(file):
    table = file["logf/main/sorted_reward"][()]
    replace(file, "logf/main/sorted_reward", table[:, ::-1])


def not_a_number(file):
    rewards = file["reward/main/value"][()]
    rewards[2, 3] = np.nan
    replace(file, "reward/main/value", rewards)


def too_long(file):
    length = file["sample/length"][()]
    length[0, 0] = 9
    replace(file, "sample/length", length)


def link_outside(file):
    del file["reward/main/value"]
    file["reward/main/value"] = h5py.ExternalLink("other.h5", "/reward/main/value")


def huge(file):
    del file["sample/length"]
    file.create_dataset("sample/length", shape=(1 << 40, 32), dtype="i4", chunks=(1 << 10, 32))


@pytest.mark.parametrize("change, words", some([
    (lambda file: file.attrs.modify("schema_version", 2), ["schema version 2", "1 to 1"]),
    (lambda file: file.attrs.modify("format", "vbon.eval"), ["vbon.eval", "vbon.pool"]),
    (lambda file: file.attrs.__delitem__("temperature"), ["temperature"]),
    (lambda file: file.attrs.modify("num_samples", 33), ["33"]),
    (lambda file: drop(file, "sample/tokens"), ["sample/tokens"]),
    (lambda file: replace(file, "sample/tokens", np.zeros((8, 32, 8))), ["sample/tokens"]),
    (unsorted, ["sorted_reward", "ascending"]),
    (not_a_number, ["reward 'main'", "nan"]),
    (too_long, ["sample"]),
    (link_outside, ["reward/main"]),
    (huge, ["sample/length"]),
]))
def test_pools_that_other_programs_wrote_wrongly(fresh, change, words):
    rewritten(fresh.folder / "pool.h5", fresh.folder / "foreign.h5", change)
    fresh.refused(*TRAIN, *settings("run.dir=never", "pool.path=foreign.h5"), words=["foreign.h5", *words])


def test_a_pool_that_another_program_wrote_rightly(fresh):
    """The same content without our checksum is as good: what is refused above is refused for its fault."""
    rewritten(fresh.folder / "pool.h5", fresh.folder / "foreign.h5", lambda file: None)
    fresh.run(*TRAIN, *settings("pool.path=foreign.h5", "train.steps=1", "train.warm_start=0", "eval.every=0"))
    assert len(metrics(fresh.folder / "run")) == 1


@pytest.mark.parametrize("damage, words", some([
    (lambda old: old[:-1], ["truncated or damaged"]),
    (lambda old: old[:1000], ["truncated or damaged"]),
    (lambda old: old[:300], ["truncated or damaged"]),
    (lambda _: b"", ["no HDF5 file"]),
    (lambda _: b"\x89HDF\r\n\x1a\n", ["pool.h5"]),
    (lambda old: old[:5000] + bytes([old[5000] ^ 8]) + old[5001:], ["truncated or damaged"]),
    (lambda _: b"prompt,reward\n", ["no HDF5 file"]),
]))
def test_damaged_pools(fresh, damage, words):
    path = fresh.folder / "pool.h5"
    path.write_bytes(damage(path.read_bytes()))
    fresh.refused(*TRAIN, *settings("run.dir=never"), words=["pool.h5", *words])


def test_prompts_that_a_pool_lacks(fresh):
    """By force past the other prompt set, a prompt without its samples is still refused, and named."""
    with open(fresh.folder / "train.jsonl", "a") as file:
        file.write(json.dumps({"id": 77, "prompt": "somebody new"}) + "\n")
    fresh.refused(*TRAIN, *settings("run.dir=never"), words=["pool.h5", "prompt set"])
    fresh.refused(*TRAIN, "--force", *settings("run.dir=never"), words=["pool.h5", "lacks 1 of 9 prompts", "77", "vbon pool"])


# Ranks.

@pytest.mark.parametrize("ranks, roles, words", some([
    (1, "{rollout: 2, scorer: 1, learner: 1}", ["asks for 4 ranks", "there is 1"]),
    (3, "{rollout: 2, scorer: 1, learner: 1}", ["asks for 4 ranks", "there are 3"]),
    (3, "{rollout: 0, scorer: 1, learner: 2}", ["cluster.roles", "rollout"]),
    (2, "{rollout: 1, scorer: 1}", ["learner"]),
    (6, "{rollout: 1, scorer: 0, learner: 5}", ["5 learners", "4 chunks"]),
]))
def test_roles_that_do_not_fit(toy, ranks, roles, words):
    toy.refused(*TRAIN, *settings("run.dir=never", f"cluster.roles={roles}"), ranks=ranks, words=words)


@pytest.mark.parametrize("overrides, words", some([
    (["sampling.temperature=0.5"], ["temperature"]),
    (["prompts.train=gone.jsonl"], ["gone.jsonl"]),
    (["model.reference=gone"], ["gone"]),
    (["train.stesp=1"], ["train.stesp"]),
]))
def test_with_several_ranks_the_same_exit(toy, overrides, words):
    done = toy.refused(*TRAIN, *settings("run.dir=never", *overrides), ranks=3, words=words)
    assert len(done.stderr.splitlines()) <= 3, f"a line a rank at most:\n{done.stderr}"
