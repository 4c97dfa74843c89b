"""The splits on invented snippets: the same code, other text."""

import json
import random

import movie_reviews
import pytest
from movie_reviews import build, keyed_hash, prompt_of, read_snippets, split, usable

WORDS = "film story actor plot slow bright dull warm scene music ending hero villain script charm noise".split()


def table(rows) -> bytes:
    return "".join("\t".join(map(str, row)) + "\r\n" for row in rows).encode()


def invented(count: int):
    """`scores` and `ratings` as in the real files; a few duplicates, short lines and neutral scores among them."""
    source = random.Random(3)
    scores, ratings = [], []
    for id in range(1, count + 1):
        text = " ".join(source.choices(WORDS, k=source.randint(1, 20)))
        votes = [source.randint(-4, 4) for _ in range(10)]
        scores.append((id, sum(votes) / 10, text))
        ratings.append((id, sum(votes) / 10, 1.5, votes))
    scores[10] = (11, scores[10][1], scores[9][2])
    return scores, ratings


@pytest.fixture(scope="module")
def files():
    scores, ratings = invented(12500)
    content = build(table(scores), table(ratings))
    return {name.removesuffix(".jsonl"): [json.loads(line) for line in lines.decode().splitlines()]
            for name, lines in content.items()}


def test_soft_label_is_the_share_of_raters_who_liked_it():
    snippets = read_snippets("1\t0.5\tgood naïve film\r\n".encode(), b"1\t0.5\t1.0\t[3, 0, -1, 1]\r\n")
    assert [(s.id, s.text, s.rating, s.soft) for s in snippets] == [(1, "good naïve film", 0.5, 0.625)]


def test_duplicates_and_short_lines_go_and_the_first_of_equals_stays():
    scores = [(1, 1.0, "a fine film"), (2, -1.0, "a fine film"), (3, 1.0, "two words"), (4, 0.0, "A fine film")]
    snippets = usable(read_snippets(table(scores), table((id, 0, 0, [1]) for id, *_ in scores)))
    assert sorted(s.id for s in snippets) == [1, 4]


def test_order_is_that_of_the_hash_whatever_the_order_of_the_lines():
    scores, ratings = invented(300)
    forward = usable(read_snippets(table(scores), table(ratings)))
    texts = [s.text for s in forward]
    assert texts == sorted(texts, key=lambda text: keyed_hash("vbon-qs-1", text))
    distinct = {text: (id, mean, text) for id, mean, text in scores}
    backward = usable(read_snippets(table(reversed(distinct.values())), table(ratings)))
    assert [s.text for s in backward] == texts


def test_splits_have_their_sizes_and_share_nothing(files):
    assert [len(files[name]) for name in ("sft", "reward", "evaluator")] == [4000, 3000, 3000]
    texts = [line["text"] for name in ("sft", "reward", "evaluator", "test") for line in files[name]]
    assert len(texts) == len(set(texts)) > 10000


def test_labels_follow_the_mean_rating_and_soft_files_the_raters(files):
    for name in ("reward", "evaluator", "test"):
        for line, soft in zip(files[name], files[f"{name}-soft"], strict=True):
            assert line["label"] == (1 if line["rating"] > 0 else 0)
            assert "score" not in line  # a line of labels has one or the other
            assert soft == {"text": line["text"], "label": line["soft"]}
            assert 0 <= line["soft"] <= 1


def test_prompts_are_distinct_beginnings_of_the_right_split(files):
    train, held_out = files["prompts-train-400"], files["prompts-eval-128"]
    assert files["prompts-train"] == train[:64] and files["prompts-eval"] == held_out[:24]
    assert len(train) == 400 and len(held_out) == 128
    everything = [line["prompt"].casefold() for line in train + held_out]
    assert len(set(everything)) == len(everything)
    assert len({line["id"] for line in train + held_out}) == 528
    for lines, name in ((train, "sft"), (held_out, "test")):
        texts = [line["text"] for line in files[name]]
        for line in lines:
            words = line["prompt"].split()
            assert 2 <= len(words) <= 8
            assert any(text.split()[:len(words)] == words and len(text.split()) > len(words) for text in texts)


def test_prompt_lengths_are_spread_evenly(files):
    lengths = [len(prompt_of(movie_reviews.Snippet(0, " ".join([str(i)] * 20), 0.0, 0.0)).split()) for i in range(7000)]
    for length in range(2, 9):  # 1000 expected each; five standard deviations are 146
        assert abs(lengths.count(length) - 1000) < 146


def test_split_gives_the_rest_to_the_test(monkeypatch):
    monkeypatch.setattr(movie_reviews, "SPLITS", {"sft": 2, "test": None})
    assert split([1, 2, 3, 4, 5]) == {"sft": [1, 2], "test": [3, 4, 5]}
