"""Writes what scaling is measured with: a language model of 2 M numbers, a reward model on half of it, and prompts.

    python3 configs/small/scaling/make.py runs/scaling/data

Weights are random: what a step costs does not depend on what they say. NumPy and the standard library are all it needs.
"""
import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import tiny_llama

LETTERS = "abcdefghijklmnopqrstuvwxyzĠ"  # Ġ: the blank, in the letters of byte-level tokenizers
SIZES = {"hidden": 192, "inner": 768, "heads": 4, "positions": 64}
PROMPTS, PROMPT_LETTERS = 256, 8


def main(folder):
    config = tiny_llama.config(LETTERS, layers=3, **SIZES)
    tiny_llama.write(folder / "model", config, tiny_llama.weights(config, seed=1, deviation=0.05), LETTERS)
    config = tiny_llama.config(LETTERS, layers=2, **SIZES) | {
        "architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "worth"}, "label2id": {"worth": 0},
        "pad_token_id": 0}
    tensors = tiny_llama.weights(config, seed=2, deviation=0.05, head="score.weight", rows=1)
    tiny_llama.write(folder / "reward", config, tensors, LETTERS)
    draw = random.Random(3)
    prompts = ["".join(draw.choices(LETTERS[:-1], k=PROMPT_LETTERS)) for _ in range(PROMPTS)]
    lines = [json.dumps({"id": i, "prompt": prompt}) + "\n" for i, prompt in enumerate(prompts)]
    (folder / "prompts.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
