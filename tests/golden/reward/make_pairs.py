"""Writes pairs.json: Bradley-Terry training on pairs, every update over all of them, by `transformers`, torch's own AdamW
and clipping, and TRL's loss with its centring term (weights: the same, weighted). Losses by update, the mean reward of
the training texts, and the centred rewards of the held-out ones. And the metrics of random rewards, by NumPy and SciPy.

    python make_pairs.py        needs torch, transformers, tokenizers, trl, numpy, scipy; after make_classifier.py and
                                make_lm_classifiers.py
"""

import collections
import json
import pathlib
import types

import numpy as np
import scipy.stats
import torch
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification, GPT2ForSequenceClassification, LlamaForSequenceClassification
from trl import RewardTrainer

HERE = pathlib.Path(__file__).parent
UPDATES, RATE, DECAY, WARMUP, CLIP = 6, 0.01, 0.1, 2, 0.5

PAIRS = [  # prompt, chosen, rejected, weight
    ("The film", " is a delight.", " is dull.", 1.0),
    ("", "great, from beginning to end", "never again", 2.0),
    ("I did", " like it", " not like it, and would not see it again for any money", 0.5),
    ("It", " is what it is", " is", 1.0),
]
HELDOUT = [("The film", " is great", " is dull", 1.0), ("", "again and again!", "never", 2.0), ("It", " is", " is", 1.0)]

BASES = {"classifier": BertForSequenceClassification, "lm_gpt2": GPT2ForSequenceClassification,
         "lm_llama": LlamaForSequenceClassification}
CASES = [  # base, layers, coefficient, weighted, end token
    ("classifier", "last 1", 0.05, False, False),
    ("classifier", "all", 0.01, True, False),
    ("lm_gpt2", "head", 0.05, False, False),
    ("lm_gpt2", "last 1", 0.05, True, True),
    ("lm_gpt2", "all", 0.05, False, False),
    ("lm_llama", "last 1", 0.0, False, True),
]


def load(name):
    """The base with one output: its own, or (what the test makes of the others) the head's last row."""
    model = BASES[name].from_pretrained(HERE / name).eval()
    head = model.classifier if name == "classifier" else model.score
    head.weight = torch.nn.Parameter(head.weight[-1:].detach().clone())
    if head.bias is not None:
        head.bias = torch.nn.Parameter(head.bias[-1:].detach().clone())
    model.num_labels = 1
    return model


def trained_parameters(model, name, layers):
    depth = model.config.num_hidden_layers
    first = depth - (0 if layers == "head" else depth if layers == "all" else int(layers.split()[1]))
    blocks = {"classifier": "encoder.layer.", "lm_gpt2": "transformer.h.", "lm_llama": "model.layers."}[name]
    kept = [f"{blocks}{i}." for i in range(first, depth)] + ["pooler", "classifier", "score"]
    if layers != "head":
        kept += ["ln_f", "model.norm"]
    trained = [p for n, p in model.named_parameters() if layers == "all" or any(k in n for k in kept)]
    for p in model.parameters():
        p.requires_grad_(any(p is q for q in trained))
    return trained


class Batch:
    """All chosen texts, then all rejected ones, as TRL has them."""

    def __init__(self, tokenizer, model, pairs, end):
        texts = [p + c for p, c, _, _ in pairs] + [p + r for p, _, r, _ in pairs]
        rows = [tokenizer.encode(text).ids + ([model.config.eos_token_id] if end else []) for text in texts]
        pad = next(i for i in range(3, model.config.vocab_size) if not any(i in row for row in rows))
        model.config.pad_token_id = pad  # what transformers finds the last token by
        width = max(map(len, rows))
        self.inputs = {"input_ids": torch.tensor([row + [pad] * (width - len(row)) for row in rows]),
                       "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])}
        self.weights = torch.tensor([w for _, _, _, w in pairs])

    def rewards(self, model):
        return torch.chunk(model(**self.inputs).logits.squeeze(-1), 2)


def trl_loss(model, batch, coefficient):
    same = types.SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x)
    trainer = types.SimpleNamespace(model=model, args=types.SimpleNamespace(center_rewards_coefficient=coefficient),
                                    accelerator=same, _total_train_tokens=0,
                                    _metrics=collections.defaultdict(lambda: collections.defaultdict(list)))
    inputs = dict(batch.inputs)
    forward = model
    if isinstance(model, BertForSequenceClassification):  # knows no use_cache, which TRL gives
        forward = lambda use_cache, **rest: model(**rest)  # noqa: E731
    return RewardTrainer.compute_loss(trainer, forward, inputs)


def weighted_loss(chosen, rejected, weights, coefficient):
    each = -torch.nn.functional.logsigmoid(chosen - rejected) + coefficient * (chosen + rejected) ** 2
    return (weights * each).sum() / weights.sum()


def train(name, layers, coefficient, weighted, end):
    tokenizer = Tokenizer.from_file(str(HERE / name / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    model = load(name)
    trained = trained_parameters(model, name, layers)
    optimizer = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=DECAY)
    batch = Batch(tokenizer, model, PAIRS, end)
    weights = batch.weights if weighted else torch.ones(len(PAIRS))
    losses = []
    for update in range(UPDATES):
        share = (update + 1) / (WARMUP + 1) if update < WARMUP else 1 - (update - WARMUP) / (UPDATES - WARMUP)
        for group in optimizer.param_groups:
            group["lr"] = RATE * share
        loss = weighted_loss(*batch.rewards(model), weights, coefficient)
        if not weighted:
            theirs = trl_loss(model, batch, coefficient)
            assert abs(theirs.item() - loss.item()) < 1e-6
            loss = theirs
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        chosen, rejected = (r.double() for r in batch.rewards(model))
        mean = ((weights * (chosen + rejected)).sum() / (2 * weights.sum())).item()
        heldout = Batch(tokenizer, model, HELDOUT, end).rewards(model)
    return {"base": name, "layers": layers, "center": coefficient, "weighted": weighted, "append_eos": end, "losses": losses,
            "mean_reward": mean,
            "heldout": [[float(c) - mean, float(r) - mean] for c, r in zip(*heldout)]}


def records(pairs):
    return [{"prompt": p, "chosen": c, "rejected": r, "weight": w} for p, c, r, w in pairs]


def metrics(seed):
    rng = np.random.default_rng(seed)
    chosen, rejected = np.round(rng.normal(0.6, 1, 50), 1), np.round(rng.normal(0, 1, 50), 1)  # ties
    w = np.round(rng.random(50) * 3, 2)
    d = chosen - rejected
    p = np.concatenate([1 / (1 + np.exp(-d)), 1 / (1 + np.exp(d))])
    y, ww = np.concatenate([np.ones(50), np.zeros(50)]), np.concatenate([w, w])
    bins = np.minimum((p * 10).astype(int), 9)
    return {"rewards": np.stack([chosen, rejected], 1).ravel().tolist(), "weights": w.tolist(),
            "loss": float((w * np.logaddexp(0, -d)).sum() / w.sum()),
            "accuracy": float(((d > 0) + 0.5 * (d == 0)).mean()),
            "auc": float(scipy.stats.mannwhitneyu(chosen, rejected).statistic / 2500),
            "calibration": float(sum(abs((ww * (y - p))[bins == b].sum()) for b in range(10)) / ww.sum())}


if __name__ == "__main__":
    golden = {"updates": UPDATES, "learning_rate": RATE, "weight_decay": DECAY, "warmup": WARMUP, "clip_norm": CLIP,
              "pairs": records(PAIRS), "heldout": records(HELDOUT), "cases": [train(*case) for case in CASES],
              "metrics": [metrics(1), metrics(2)]}
    (HERE / "pairs.json").write_text(json.dumps(golden, indent=1) + "\n")
