"""ROUGE-L against the package's own synopsis, as an evaluator: F1 of the longest common subsequence of words.

    rouge.py SYNOPSES      JSON Lines {"prompt", "synopsis"}; then {"prompt", "response"} in, {"reward"} out
"""
import json
import re
import sys


def words(text):
    return re.findall(r"\w+", text.casefold())


def common(a, b):
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def rouge_l(response, synopsis):
    a, b = words(response), words(synopsis)
    return 2 * common(a, b) / (len(a) + len(b)) if a and b else 0.0


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        synopses = {record["prompt"]: record["synopsis"] for record in map(json.loads, file)}
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"reward": rouge_l(request["response"], synopses.get(request["prompt"], ""))}), flush=True)
