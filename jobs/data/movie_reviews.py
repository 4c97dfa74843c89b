"""Movie snippets with human scores, split once and for all: text to fine-tune on, labels for the reward and for the
evaluator, held-out text, and prompts.

Everything is a function of the two input files: the order is that of a keyed hash of the text, so that no split depends
on the order in which the snippets were collected.
"""

import hashlib
import json
from dataclasses import dataclass

SPLIT_KEY = "vbon-qs-1"
MIN_WORDS = 3
SPLITS = {"sft": 4000, "reward": 3000, "evaluator": 3000, "test": None}  # None: the rest
MIN_PROMPT_WORDS, MAX_PROMPT_WORDS = 2, 8
TRAIN_PROMPTS, EVAL_PROMPTS = (64, 400), (24, 128)  # the first of the longer list are the shorter one


@dataclass(frozen=True)
class Snippet:
    id: int
    text: str
    rating: float  # mean of the human ratings, -4 … 4
    soft: float    # share of the raters who liked it, 0 … 1; a rating of 0 counts half


def keyed_hash(key: str, text: str) -> str:
    return hashlib.sha256(f"{key}\t{text}".encode()).hexdigest()


def rows(content: bytes) -> list[list[str]]:
    return [line.removesuffix("\r").split("\t") for line in content.decode().split("\n") if line.strip()]


def read_snippets(scores: bytes, ratings: bytes) -> list[Snippet]:
    """`scores`: lines of id, mean, text; `ratings`: lines of id, mean, standard deviation, list of integers."""
    soft = {}
    for row in rows(ratings):
        votes = json.loads(row[3])
        soft[row[0]] = sum(1.0 if vote > 0 else 0.5 if vote == 0 else 0.0 for vote in votes) / len(votes)
    return [Snippet(int(id), text, float(mean), soft[id]) for id, mean, text in rows(scores)]


def usable(snippets: list[Snippet]) -> list[Snippet]:
    """Without exact duplicates (the first stays) and lines of fewer than three words, in the order of the splits."""
    distinct = {}
    for snippet in snippets:
        distinct.setdefault(snippet.text, snippet)
    kept = [snippet for snippet in distinct.values() if len(snippet.text.split()) >= MIN_WORDS]
    return sorted(kept, key=lambda snippet: keyed_hash(SPLIT_KEY, snippet.text))


def split(snippets: list[Snippet]) -> dict[str, list[Snippet]]:
    parts, begin = {}, 0
    for name, size in SPLITS.items():
        end = len(snippets) if size is None else begin + size
        parts[name], begin = snippets[begin:end], end
    return parts


def prompt_of(snippet: Snippet) -> str:
    """The first 2 to 8 words (as many as a hash of the text says), always fewer than all of them."""
    words = snippet.text.split()
    choices = MAX_PROMPT_WORDS - MIN_PROMPT_WORDS + 1
    length = MIN_PROMPT_WORDS + int(keyed_hash(f"{SPLIT_KEY}-prompt", snippet.text), 16) % choices
    return " ".join(words[:min(length, len(words) - 1)])


def prompts(snippets: list[Snippet], count: int, taken: set[str]) -> list[dict]:
    """`count` prompts that differ from each other and from `taken` (which they join), also in more than case."""
    chosen = []
    for snippet in snippets:
        prompt = prompt_of(snippet)
        if len(chosen) < count and prompt.casefold() not in taken:
            taken.add(prompt.casefold())
            chosen.append({"id": snippet.id, "prompt": prompt})
    return chosen


def json_lines(records: list[dict]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def build(scores: bytes, ratings: bytes) -> dict[str, bytes]:
    """File name -> content of every file of the folder."""
    parts = split(usable(read_snippets(scores, ratings)))
    taken: set[str] = set()
    # From the end of the split: a fine-tuning on its first part has not seen how these prompts go on.
    train = prompts(parts["sft"][::-1], max(TRAIN_PROMPTS), taken)
    held_out = prompts(parts["test"], max(EVAL_PROMPTS), taken)
    records = {"sft": [{"text": snippet.text} for snippet in parts["sft"]]}
    for name in ("reward", "evaluator", "test"):
        records[name] = [{"text": snippet.text, "label": int(snippet.rating > 0), "rating": snippet.rating,
                          "soft": snippet.soft} for snippet in parts[name]]
        records[f"{name}-soft"] = [{"text": snippet.text, "label": snippet.soft} for snippet in parts[name]]
    records |= {"prompts-train": train[:TRAIN_PROMPTS[0]], f"prompts-train-{TRAIN_PROMPTS[1]}": train,
                "prompts-eval": held_out[:EVAL_PROMPTS[0]], f"prompts-eval-{EVAL_PROMPTS[1]}": held_out}
    return {f"{name}.jsonl": json_lines(lines) for name, lines in records.items()}
