"""Writes training.json: fine-tuning of classifier/ (make_classifier.py) by `transformers` and torch's own AdamW, clipping
and losses, on soft labels with weights, every update over all texts. Losses by update, and the log odds at the end. And the
metrics of random predictions, by NumPy and SciPy.

    python make_training.py        needs torch, transformers, tokenizers, numpy, scipy
"""

import json
import pathlib

import numpy as np
import scipy.stats
import torch
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "classifier"
UPDATES, RATE, DECAY, WARMUP, CLIP = 6, 0.01, 0.1, 2, 0.5

TEXTS = [
    ("The film is a delight.", 1.0, 1.0),
    ("Dull.", 0.0, 2.0),
    ("I did not like it", 0.1, 1.0),
    ("a great great film, from beginning to end", 0.9, 0.5),
    ("It is what it is: neither good nor bad, some would say", 0.5, 1.0),
    ("never again", 0.0, 1.0),
    ("again and again!", 0.8, 1.0),
]
HELDOUT = [("a delight", 1.0, 1.0), ("dull film", 0.0, 1.0), ("it is", 0.5, 3.0), ("great", 0.7, 1.0), ("never", 0.2, 2.0)]


def batch(tokenizer, texts):
    rows = [tokenizer.encode(text).ids for text, _, _ in texts]
    width = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return tokens, mask, torch.tensor([y for _, y, _ in texts]), torch.tensor([w for _, _, w in texts])


def cross_entropy(logits, y, w):
    logp = torch.log_softmax(logits, -1)
    return -(w * (y * logp[:, 1] + (1 - y) * logp[:, 0])).sum() / w.sum()


def train(layers):
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    model = BertForSequenceClassification.from_pretrained(FOLDER).eval()
    depth = model.config.num_hidden_layers
    if layers != "all":
        kept = [f"encoder.layer.{i}." for i in range(depth - (0 if layers == "head" else int(layers.split()[1])), depth)]
        kept += ["pooler", "classifier"]
        for name, p in model.named_parameters():
            p.requires_grad_(any(k in name for k in kept))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=DECAY)
    tokens, mask, y, w = batch(tokenizer, TEXTS)
    losses = []
    for update in range(UPDATES):
        share = (update + 1) / (WARMUP + 1) if update < WARMUP else 1 - (update - WARMUP) / (UPDATES - WARMUP)
        for group in optimizer.param_groups:
            group["lr"] = RATE * share
        loss = cross_entropy(model(tokens, attention_mask=mask).logits, y, w)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        losses.append(loss.item())
    tokens, mask, y, w = batch(tokenizer, HELDOUT)
    with torch.no_grad():
        logits = model(tokens, attention_mask=mask).logits
    return {"layers": layers, "losses": losses, "heldout_loss": cross_entropy(logits, y, w).item(),
            "heldout_log_odds": (logits[:, 1] - logits[:, 0]).tolist()}


def records(texts):
    return [{"text": t, "label": y, "weight": w} for t, y, w in texts]


def metrics(seed, soft):
    rng = np.random.default_rng(seed)
    z = np.round(rng.normal(0.3, 1.5, 60), 1)  # ties
    y = np.round(rng.random(60), 1) if soft else (rng.random(60) < 1 / (1 + np.exp(-z))).astype(float)
    w = np.round(rng.random(60) * 3, 2)
    p = 1 / (1 + np.exp(-z))
    bins = np.minimum((p * 10).astype(int), 9)
    ece = sum(abs((w * (y - p))[bins == b].sum()) for b in range(10)) / w.sum()
    kept = y != 0.5
    positive = y[kept] > 0.5
    auc = scipy.stats.mannwhitneyu(z[kept][positive], z[kept][~positive]).statistic / positive.sum() / (~positive).sum()
    covariance = np.cov(p, y, aweights=w)
    return {"predictions": list(z), "labels": list(y), "weights": list(w),
            "loss": float((w * (np.logaddexp(0, z) - y * z)).sum() / w.sum()),
            "accuracy": float(((z[kept] > 0) == positive).mean()), "auc": float(auc), "calibration": float(ece),
            "correlation": float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))}


if __name__ == "__main__":
    golden = {"updates": UPDATES, "learning_rate": RATE, "weight_decay": DECAY, "warmup": WARMUP, "clip_norm": CLIP,
              "texts": records(TEXTS), "heldout": records(HELDOUT), "cases": [train(x) for x in ("head", "last 1", "all")],
              "metrics": [metrics(1, soft=False), metrics(2, soft=True)]}
    (HERE / "training.json").write_text(json.dumps(golden, indent=1) + "\n")
