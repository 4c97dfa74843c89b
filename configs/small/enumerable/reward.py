"""The reward of the enumerable study, as a program: letters, pairs of neighbours and, less, places have values, other
ones for each prompt, so that no two responses tie. With --short as its argument another one: few letters are good."""
import hashlib
import json
import sys


def value(*key):
    """In [-1, 1), the same everywhere."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**63 - 1


def reward(prompt, response):
    if "--short" in sys.argv:
        return -float(len(response))
    total, before = 0.0, ""
    for place, letter in enumerate(response):
        total += value(prompt, letter) + value(prompt, before, letter) + 0.3 * value(prompt, place, letter)
        before = letter
    return total


for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"reward": reward(request["prompt"], request["response"])}), flush=True)
