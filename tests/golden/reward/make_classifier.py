"""Writes classifier/: a small random BERT classifier with a tokenizer, and what `transformers` and `tokenizers` make of
pairs of prompt and response (expected.json): token ids, logits and the rewards of every output.

    python make_classifier.py        needs torch, transformers, tokenizers
"""

import json
import pathlib
import shutil

import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "classifier"
TOKENIZER = HERE.parent / "text/bert_uncased/tokenizer.json"
MAX_LENGTH = 24

PAIRS = [
    ("The film", " is a delight from beginning to end."),
    ("The film", ""),
    ("", "Dull."),
    ("", ""),
    ("I did not", " like it: the plot [SEP] makes [MASK] no sense!"),
    ("Très", " élégant, 日本語 and \u00a0emoji 😀"),
    ("A very long prompt that goes on and on about the film", " and an answer that goes on too, so that both do not fit at all."),
    ("One", " two three four five six seven eight nine ten eleven."),
]


def encode(tokenizer, text):
    """[CLS] … [SEP]; special tokens' names inside the text are text; of a long text the end is kept."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    return [cls, *ids[max(0, len(ids) - (MAX_LENGTH - 2)):], sep]


def main():
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.encode_special_tokens = True
    torch.manual_seed(7)
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                        num_attention_heads=2, max_position_embeddings=64, num_labels=2, hidden_dropout_prob=0.0,
                        attention_probs_dropout_prob=0.0, id2label={0: "NEGATIVE", 1: "POSITIVE"},
                        label2id={"NEGATIVE": 0, "POSITIVE": 1})
    model = BertForSequenceClassification(config).eval().float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(1.0 if "LayerNorm.weight" in name else 0.0, 0.3)
    shutil.rmtree(FOLDER, ignore_errors=True)
    model.save_pretrained(FOLDER)
    (FOLDER / "generation_config.json").unlink(missing_ok=True)
    saved = json.loads((FOLDER / "config.json").read_text())
    saved.pop("transformers_version", None)
    (FOLDER / "config.json").write_text(json.dumps(saved, indent=1, sort_keys=True) + "\n")
    shutil.copyfile(TOKENIZER, FOLDER / "tokenizer.json")
    rows = []
    for prompt, response in PAIRS:
        ids = encode(tokenizer, prompt + response)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double()
        logp = torch.log_softmax(logits, -1)
        rows.append({"prompt": prompt, "response": response, "ids": ids, "logits": logits.tolist(),
                     "log_prob": logp.tolist(), "prob": logp.exp().tolist(),
                     "logit": [(logits[0] - logits[1]).item(), (logits[1] - logits[0]).item()]})
    expected = {"max_length": MAX_LENGTH, "rows": rows}
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
