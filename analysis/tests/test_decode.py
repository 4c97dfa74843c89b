"""Decoding against the tokenizers library, where it is installed, and by hand."""

import json
from pathlib import Path

import pytest

from analysis.decode import Decoder
from analysis.errors import InputError

from . import fixtures


def test_words_come_back_and_special_tokens_are_left_out(tmp_path: Path) -> None:
    fixtures.write_tokenizer(tmp_path / "tokenizer.json")
    decode = Decoder(tmp_path / "tokenizer.json")
    words = fixtures.PRAISE + fixtures.OTHER
    at = {word: 1 + i for i, word in enumerate(words)}
    assert decode([at["great"], at["café"], at["naïve"], fixtures.EOS, -1, -1]) == " great café naïve"
    assert decode([10**6]) == "\N{REPLACEMENT CHARACTER}"
    assert decode([]) == ""


def test_decoding_is_that_of_the_tokenizers_library(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = tokenizers.decoders.ByteLevel()
    texts = ["The film wasn't bad, café naïve 日本語 👍🏽 \t\n\u0085 x" * 3, "quick brown fox " * 20, "ÿ\u00ad\u0080 €"]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    trained.train_from_iterator(texts, trainer)
    trained.add_tokens(["[plain añadido]"])
    trained.save(str(tmp_path / "tokenizer.json"))
    decode = Decoder(tmp_path / "tokenizer.json")
    for text in [*texts, "<|end|>x<|end|>", "a [plain añadido] b", "no \x00 end 🤷"]:
        ids = trained.encode(text).ids
        assert decode(ids) == trained.decode(ids)
        for cut in range(len(ids)):  # in the middle of characters too
            assert decode(ids[:cut]) == trained.decode(ids[:cut])
    for token in range(trained.get_vocab_size()):
        assert decode([token]) == trained.decode([token])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model"), "vocabulary"),
        (lambda t: t["model"].update(vocab=[]), "vocabulary"),
        (lambda t: t.update(decoder={"type": "WordPiece"}), "byte-level"),
        (lambda t: t.update(decoder=None), "byte-level"),
        (lambda t: t["model"]["vocab"].update(x="y"), "whole number"),
        (lambda t: t.update(added_tokens=[{"id": 1}]), "added token"),
        (lambda t: t.update(added_tokens=3), "vocabulary"),
    ],
)
def test_another_tokenizer_is_refused_by_name(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "tokenizer.json"
    fixtures.write_tokenizer(path)
    tokenizer = json.loads(path.read_text())
    change(tokenizer)
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match=message):
        Decoder(path)


def test_a_sequence_of_decoders_with_byte_level_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    fixtures.write_tokenizer(path)
    tokenizer = json.loads(path.read_text())
    tokenizer["decoder"] = {"type": "Sequence", "decoders": [{"type": "Sequence", "decoders": [tokenizer["decoder"]]}]}
    path.write_text(json.dumps(tokenizer))
    assert Decoder(path)([1]) == " great"
