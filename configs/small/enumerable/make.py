"""Writes a language model small enough to list its every response: three letters and an end, at most four tokens.

    python3 configs/small/enumerable/make.py runs/enumerable/model

A Hugging Face folder with random weights (two Llama blocks); NumPy and the standard library are all it needs.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import tiny_llama

LETTERS = "abc"


def main(folder):
    config = tiny_llama.config(LETTERS, hidden=64, inner=256, layers=2, heads=2, positions=16)
    tiny_llama.write(folder, config, tiny_llama.weights(config, seed=11, deviation=0.15), LETTERS)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
