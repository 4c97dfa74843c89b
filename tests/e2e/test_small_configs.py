"""configs/small/packages: the files are made from package lists as the splits say, and its grid's first run, with every
stage before it, goes to the end on them with tiny models in the place of the quick-start's."""
import hashlib
import importlib.util
import json
import random
import shutil
import sys

import pytest

from conftest import ROOT, Vbon, make_model

PACKAGES = ROOT / "configs" / "small" / "packages"
WORDS = "tool for reading files of mail sound image text data in fast small simple server and client code".split()
SIZES = {"sft": 30, "sft-heldout": 6, "reward": 30, "reward-heldout": 8}
PROMPTS = {"train": 6, "id": 3, "ood": 3}


def load(name):
    spec = importlib.util.spec_from_file_location(f"packages_{name}", PACKAGES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_lists(folder, count, order=1):
    """Package lists of invented packages, two binaries a source, and their English descriptions."""
    source, packages, english = random.Random(5), [], []
    for i in range(count):
        section = ("admin", "utils", "games", "contrib/net")[i % 4]
        for name in (f"pack{i}", f"pack{i}-doc"):
            synopsis = " ".join(source.sample(WORDS, 5))
            lines = [" ".join(source.choices(WORDS, k=5)) for _ in range(4)]
            text = f"{synopsis}\n {lines[0]}\n {lines[1]}\n .\n {lines[2]}\n {lines[3]}"
            md5 = hashlib.md5(text.encode()).hexdigest()
            packages.append(f"Package: {name}\nSource: pack{i} (1.0)\nSection: {section}\nDescription: {synopsis}\n"
                            f"Description-md5: {md5}\nTag: a,\n b")
            english.append(f"Package: {name}\nDescription-md5: {md5}\nDescription-en: {text}")
    folder.mkdir()
    (folder / "mirror_main_binary-amd64_Packages").write_text("\n\n".join(packages[::order]) + "\n")
    (folder / "mirror_main_i18n_Translation-en").write_text("\n\n".join(english[::order]) + "\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    write_lists(folder / "lists", 200)
    write_lists(folder / "backwards", 200, order=-1)
    make = load("make")
    return make, make.build(make.read_packages(folder / "lists"), SIZES, PROMPTS), folder


def test_parts_share_no_package_and_do_not_depend_on_the_order_of_the_lists(made):
    make, files, folder = made
    assert make.build(make.read_packages(folder / "backwards"), SIZES, PROMPTS) == files
    prompts = [{record["prompt"] for record in files[name]} for name in files if name.startswith(("sft", "prompts"))]
    prompts += [{record["text"].rpartition("\n\nSYNOPSIS:")[0] + "\n\nSYNOPSIS:" for record in files[name]}
                for name in ("reward", "reward-heldout")]
    assert sum(map(len, prompts)) == len(set().union(*prompts)) and all(prompts)


def test_prompts_are_of_their_sections_and_end_before_the_summary(made):
    _, files, _ = made
    sections = {name: {record["prompt"].split("\n")[0] for record in files[f"prompts-{name}"]} for name in PROMPTS}
    assert sections["train"] | sections["id"] <= {"SECTION: admin", "SECTION: utils"}
    assert sections["ood"] <= {"SECTION: games", "SECTION: net"}
    assert [len(files[f"prompts-{name}"]) for name in PROMPTS] == list(PROMPTS.values())
    prompt = files["prompts-train"][0]["prompt"]
    assert prompt.endswith("\n\nSYNOPSIS:") and "-doc" not in prompt and " . " not in prompt
    assert len({record["id"] for name in PROMPTS for record in files[f"prompts-{name}"]}) == sum(PROMPTS.values())
    assert all(record["response"].startswith(" ") for record in files["sft"])


def test_labels_weigh_good_and_bad_the_same(made):
    _, files, _ = made
    good = sum(record["weight"] for record in files["reward"] if record["label"] == 1)
    assert good == sum(record["weight"] for record in files["reward"] if record["label"] == 0) > 20


def test_lists_without_descriptions_are_refused(made, tmp_path):
    make, _, folder = made
    shutil.copy(folder / "lists" / "mirror_main_binary-amd64_Packages", tmp_path)
    with pytest.raises(make.NoLists, match="Translation-en"):
        make.read_packages(tmp_path)


def test_rouge_l():
    rouge = load("rouge")
    assert rouge.rouge_l("A fast tool", "fast tool for mail") == pytest.approx(2 * 2 / 7)
    assert rouge.rouge_l("Fast TOOL for mail.", "fast tool for mail") == 1 and rouge.rouge_l("", "x") == 0
    assert rouge.common("abcbdab", "bdcaba") == 4


def test_the_grid_runs(made, tmp_path):
    _, files, _ = made
    vbon = Vbon(tmp_path)
    shutil.copytree(PACKAGES, tmp_path / "configs" / "small" / "packages")
    (tmp_path / "data" / "packages").mkdir(parents=True)
    for name, records in files.items():
        text = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / "data" / "packages" / f"{name}.jsonl").write_text(text)
    make_model(tmp_path / "models" / "smollm2-135m", seed=1)
    shutil.copytree(ROOT / "tests" / "golden" / "reward" / "classifier", tmp_path / "models" / "minilm-l6")
    small = {"sft.max_length": 120, "sft.layers": "last 2", "reward.max_length": 48, "reward.train.layers": "last 1",
             "pool.samples": 8, "sampling.max_new_tokens": 6, "train.layers": "last 2", "train.warm_start": 1,
             "train.steps": 2, "train.prompts_per_step": 4, "eval.samples": 2, "eval.bootstrap": 100,
             "cluster.threads": 1, "evaluator.command": f"[{sys.executable}, configs/small/packages/rouge.py, "
                                                        "data/packages/synopses.jsonl]"}
    vbon.run("sweep", "configs/small/packages/methods.yaml", "--only", "0", "--quiet",
             *(word for key, value in small.items() for word in ("-s", f"{key}={value}")))
    run = next((tmp_path / "runs/small/packages/methods/runs").iterdir())
    found = sorted(path.parent.name for path in run.glob("eval/*/summary.json"))
    assert (run / "finished").exists() and len(found) == 9 and "ood-t1-00000002" in found
    rows = json.loads((run / "eval/final-00000002/summary.json").read_text())["rows"]
    assert all(0 <= row["evaluator"] <= 1 for row in rows if row.get("evaluator") is not None)
