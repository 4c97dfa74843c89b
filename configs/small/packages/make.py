"""Writes a summarisation task from the descriptions of Debian's packages: the long description is the post, the
synopsis its summary, the archive section the subreddit. The standard library is all it needs.

    python3 configs/small/packages/make.py data/packages [--lists DIR]

DIR: package lists as apt keeps them, with English descriptions (Translation-en). Machines without these get them by

    mkdir -p DIR/partial && apt-get update -o Acquire::Languages=en -o Dir::State::lists=$PWD/DIR

Of each source package one binary package is taken, so that no two parts share a text; the parts are in the order of a
keyed hash of its name. The texts are their packages' authors': none are kept here.
"""
import argparse
import collections
import hashlib
import json
import pathlib
import re
import subprocess
import sys

KEY = "vbon-packages-1"
FETCH = "mkdir -p DIR/partial && apt-get update -o Acquire::Languages=en -o Dir::State::lists=$PWD/DIR"
HELPER = "/usr/lib/apt/apt-helper"  # reads a list however it is compressed
ID_SECTIONS = ("admin", "utils")  # prompts to train on are of these; of all others: out of distribution
WORDS = 40                        # of a description
FEWEST, SYNOPSIS_WORDS = 15, range(3, 13)
SIZES = {"sft": 1000, "sft-heldout": 200, "reward": 1000, "reward-heldout": 200}
PROMPTS = {"train": 64, "id": 24, "ood": 24}

Package = collections.namedtuple("Package", "name source section synopsis description")


class NoLists(Exception):
    pass


def content(path):
    if path.suffix in (".lz4", ".gz", ".xz", ".bz2", ".zst"):
        return subprocess.run([HELPER, "cat-file", str(path)], check=True, capture_output=True).stdout.decode()
    return path.read_text()


def stanzas(text):
    """RFC-822 stanzas: name -> value, continuation lines and all."""
    for stanza in text.split("\n\n"):
        fields, name = {}, None
        for line in stanza.split("\n"):
            if line.startswith((" ", "\t")) and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            yield fields


def plain(description):
    """Synopsis and text of a description; a line of one dot parts its paragraphs."""
    synopsis, _, text = description.partition("\n")
    return synopsis.strip(), " ".join("" if line.strip() == "." else line for line in text.split("\n"))


def read_packages(lists):
    """One package a source: the one of the source's name, else the first by hash."""
    english = {}
    for path in sorted(lists.glob("*_Translation-en*")):
        for fields in stanzas(content(path)):
            english.setdefault(fields.get("Description-md5"), fields.get("Description-en", ""))
    if not english:
        raise NoLists(f"'{lists}' has no English descriptions (Translation-en); get them with\n  {FETCH}\nand name DIR "
                      f"with --lists")
    by_source = collections.defaultdict(dict)
    for path in sorted(lists.glob("*_Packages*")):
        for fields in stanzas(content(path)):
            name, source = fields["Package"], fields.get("Source", fields["Package"]).split()[0]
            if fields.get("Description-md5") in english and name not in by_source[source]:
                synopsis, text = plain(english[fields["Description-md5"]])
                section = fields.get("Section", "misc").rpartition("/")[2]
                by_source[source][name] = Package(name, source, section, synopsis, " ".join(text.split()[:WORDS]))
    return [found[min(found, key=lambda name: (name != source, keyed_hash(name)))]
            for source, found in by_source.items() if found]


def keyed_hash(text):
    return hashlib.sha256(f"{KEY}\t{text}".encode()).hexdigest()


def usable(packages):
    """With a text to shorten and a synopsis of some words; of equal texts one; in the order of the parts."""
    kept = {}
    for package in sorted(packages, key=lambda p: keyed_hash(p.source)):
        words = len(package.description.split())
        if words >= FEWEST and len(package.synopsis.split()) in SYNOPSIS_WORDS and package.synopsis.isprintable():
            kept.setdefault(re.sub(r"\W+", " ", package.description.casefold()), package)
    return list(kept.values())


def prompt_of(package):
    return (f"SECTION: {package.section}\n\nPACKAGE: {package.name}\n\nDESCRIPTION: {package.description}\n\n"
            f"SYNOPSIS:")


def labelled(packages):
    """Each with its own synopsis (good), with that of another package of its section, and with the first words of its
    own description (both bad, together as heavy): a summary fits, and is more than a copy."""
    by_section, records = collections.defaultdict(list), []
    for package in packages:
        by_section[package.section].append(package)
    for package in packages:
        members = by_section[package.section]
        other = members[members.index(package) - 1]  # the first has the last
        if other.synopsis == package.synopsis:
            continue
        copied = " ".join(package.description.split()[:len(package.synopsis.split())])
        for synopsis, label, weight in ((package.synopsis, 1, 1), (other.synopsis, 0, 0.5), (copied, 0, 0.5)):
            records.append({"text": f"{prompt_of(package)} {synopsis}", "label": label, "weight": weight})
    return records


def build(packages, sizes=None, prompts=None):
    """File name -> its records."""
    sizes, prompts = sizes or SIZES, prompts or PROMPTS
    left, files = usable(packages), {}
    for name, size in sizes.items():
        part, left = left[:size], left[size:]
        if name.startswith("sft"):
            files[name] = [{"prompt": prompt_of(p), "response": f" {p.synopsis}"} for p in part]
        else:
            files[name] = labelled(part)
    inside = [p for p in left if p.section in ID_SECTIONS]
    outside = [p for p in left if p.section not in ID_SECTIONS]
    parts = {"train": inside[:prompts["train"]], "id": inside[prompts["train"]:][:prompts["id"]],
             "ood": outside[:prompts["ood"]]}
    if any(len(part) < prompts[name] for name, part in parts.items()):
        raise NoLists(f"only {len(packages)} packages have English descriptions, too few for all parts")
    number = {p.name: i for i, p in enumerate(p for part in parts.values() for p in part)}
    for name, part in parts.items():
        files[f"prompts-{name}"] = [{"id": number[p.name], "prompt": prompt_of(p)} for p in part]
    files["synopses"] = [{"prompt": prompt_of(p), "synopsis": p.synopsis} for part in parts.values() for p in part]
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--lists", type=pathlib.Path, default=pathlib.Path("/var/lib/apt/lists"))
    options = parser.parse_args()
    try:
        files = build(read_packages(options.lists))
    except NoLists as error:
        sys.exit(f"make.py: {error}")
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, records in files.items():
        path = options.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        print(f"{path}: {len(records)}")


if __name__ == "__main__":
    main()
