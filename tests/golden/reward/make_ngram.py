"""Writes ngram.json: words and n-grams of texts by Python's own Unicode tables, naive Bayes by NumPy, logistic regression
by SciPy, and their log odds on other texts.

    python make_ngram.py        needs numpy, scipy
"""

import json
import pathlib
import unicodedata

import numpy as np
import scipy.optimize

TRAIN = [
    ("A great, great film: don't miss it!", 1.0, 1.0),
    ("Not a great film. I don't care", 0.0, 1.0),
    ("I can’t recommend it -- it's dull.", 0.1, 2.0),
    ("Très bon film, ÉLÉGANT et drôle", 0.9, 1.0),
    ("dull dull dull", 0.0, 0.5),
    ("great fun; a film to see 2 or 3 times", 0.95, 1.5),
    ("Ein großer Spaß! Straße", 0.8, 1.0),
    ("the film isn't bad, it's 'quite good'", 0.6, 1.0),
    ("это хороший фильм", 1.0, 1.0),
    ("это плохой фильм", 0.0, 1.0),
    ("", 0.5, 1.0),
    ("?! ...", 0.3, 1.0),
]
OTHER = ["a great film", "it's dull, isn't it", "Хороший ФИЛЬМ", "nothing known here xyz", "", "don't don’t care",
         "rock'n'roll ''quoted'' l'été O'", "e\u0301le\u0301gant \u00c9L\u00c9GANT", "x\u0000y tab\tnew\nline 日本語 ½ Ⅳ"]


def words(text):
    """Runs of letters, marks and numbers; one apostrophe between two of them belongs to the word."""
    result, word, apostrophe = [], "", False
    for c in text + " ":
        if unicodedata.category(c)[0] in "LMN":
            word, apostrophe = word + ("'" if apostrophe else "") + c, False
        elif c in "'\u2019" and word and not apostrophe:
            apostrophe = True
        else:
            if word:
                result.append(word)
            word, apostrophe = "", False
    return ["".join(c.lower() if len(c.lower()) == 1 else c for c in w) for w in result]


def ngrams(text, order, prefix=0):
    w, seen = words(text), {}
    for i in range(len(w)):
        if prefix and len(w[i]) > prefix:
            seen["^" + w[i][:prefix]] = None
        for n in range(1, order + 1):
            if i + n <= len(w):
                seen[" ".join(w[i:i + n])] = None
    return list(seen)


def matrix(texts, vocabulary, order, prefix):
    x = np.zeros((len(texts), len(vocabulary)))
    for i, text in enumerate(texts):
        for g in ngrams(text, order, prefix):
            if g in vocabulary:
                x[i, vocabulary[g]] = 1.0
    return x


def case(model, order, min_count, strength, prefix=0):
    texts = [t for t, _, _ in TRAIN]
    y, w = np.array([a for _, a, _ in TRAIN]), np.array([b for _, _, b in TRAIN])
    counts = {}
    for t in texts:
        for g in ngrams(t, order, prefix):
            counts[g] = counts.get(g, 0) + 1
    kept = sorted((g for g in counts if counts[g] >= min_count), key=lambda g: g.encode())
    vocabulary = {g: i for i, g in enumerate(kept)}
    x = matrix(texts, vocabulary, order, prefix)
    if model == "naive_bayes":
        good, bad = x.T @ (w * y) + strength, x.T @ (w * (1 - y)) + strength
        weights = np.log(good / good.sum()) - np.log(bad / bad.sum())
        bias = np.log((w * y).sum() / (w * (1 - y)).sum())
    else:
        def loss(v):
            z = x @ v[:-1] + v[-1]
            p = 1 / (1 + np.exp(-z))
            gradient = np.append(x.T @ (w * (p - y)) + strength * v[:-1], (w * (p - y)).sum())
            return (w * (np.logaddexp(0, z) - y * z)).sum() + strength / 2 * v[:-1] @ v[:-1], gradient

        def hessian(v):
            p = 1 / (1 + np.exp(-(x @ v[:-1] + v[-1])))
            x1 = np.hstack([x, np.ones((len(x), 1))])
            return x1.T @ ((w * p * (1 - p))[:, None] * x1) + strength * np.diag([1.0] * x.shape[1] + [0.0])

        found = scipy.optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True, hess=hessian, method="trust-exact",
                                        options={"gtol": 1e-12})
        weights, bias = found.x[:-1], found.x[-1]
    return {"model": model, "order": order, "min_count": min_count, "strength": strength, "prefix": prefix,
            "vocabulary": vocabulary,
            "weights": list(weights), "bias": bias, "log_odds": list(matrix(OTHER, vocabulary, order, prefix) @ weights + bias)}


if __name__ == "__main__":
    golden = {
        "train": [{"text": t, "label": y, "weight": w} for t, y, w in TRAIN],
        "other": OTHER,
        "words": [{"text": t, "words": words(t), "ngrams": ngrams(t, 3), "with_prefixes": ngrams(t, 1, 4)} for t in [t for t, _, _ in TRAIN] + OTHER],
        "fits": [case("naive_bayes", 2, 1, 1.0), case("naive_bayes", 1, 2, 0.3), case("naive_bayes", 2, 1, 0.5, 4), case("logistic", 2, 1, 1.0),
                 case("logistic", 3, 2, 0.05)],
    }
    path = pathlib.Path(__file__).with_name("ngram.json")
    path.write_text(json.dumps(golden, ensure_ascii=True) + "\n")
