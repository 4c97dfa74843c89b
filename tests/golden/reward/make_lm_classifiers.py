"""Writes lm_*/: small random causal language models with a head on the last token, each with a tokenizer, in the layout of
transformers' ...ForSequenceClassification and in that of the public TL;DR reward models; and what `transformers` and
`tokenizers` make of pairs of prompt and response (expected.json): token ids and logits, with and without an end token.

    python make_lm_classifiers.py        needs torch, transformers, tokenizers
"""

import json
import math
import pathlib
import shutil

import torch
from tokenizers import Tokenizer
from transformers import (AutoModel, GPT2Config, GPT2ForSequenceClassification, GPTNeoXConfig,
                          GPTNeoXForSequenceClassification, LlamaConfig, LlamaForSequenceClassification, PretrainedConfig,
                          PreTrainedModel)

HERE = pathlib.Path(__file__).parent
MAX_LENGTH = 24

PAIRS = [
    ("The film", " is a delight from beginning to end."),
    ("The film", ""),
    ("", "Dull."),
    ("I did not", " like it: the plot <|endoftext|> makes </s> no sense!"),
    ("Très", " élégant, 日本語 and\u00a0emoji 😀"),
    ("A very long prompt that goes on and on about the film", " and an answer that goes on too, so that both do not fit at all."),
    ("One", " two three four five six seven eight nine ten eleven."),
]

NEOX = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64,
            hidden_dropout=0.0, attention_dropout=0.0, bos_token_id=0, eos_token_id=0)


class ScalarConfig(PretrainedConfig):
    """Configuration of the TL;DR code's models: the body's own inside, and what is subtracted from the output."""

    def __init__(self, base_model="", base_config=None, hidden_size=0, bias=0.0, **others):
        super().__init__(**others)
        self.base_model, self.base_config, self.hidden_size, self.bias = base_model, base_config, hidden_size, bias


class ScalarModel(PreTrainedModel):
    config_class = ScalarConfig

    def __init__(self, config):
        super().__init__(config)
        self.lm_backbone = AutoModel.from_config(config.base_config)
        self.scalar_head = torch.nn.Linear(config.hidden_size, 1)
        self.post_init()

    def score_last(self, tokens):
        hidden = self.lm_backbone(tokens, output_hidden_states=True).hidden_states[-1]
        return (self.scalar_head(hidden) - self.config.bias)[:, -1]


def models():
    """Name, tokenizer, class, configuration."""
    yield ("lm_gpt2", "gpt2", GPT2ForSequenceClassification, GPT2Config(
        n_embd=16, n_layer=2, n_head=2, n_positions=64, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, bos_token_id=0,
        eos_token_id=0, num_labels=1))
    yield ("lm_neox", "neox", GPTNeoXForSequenceClassification, GPTNeoXConfig(**NEOX, num_labels=2))
    yield ("lm_llama", "byte_fallback", LlamaForSequenceClassification, LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=2, num_labels=3,
        id2label={0: "bad", 1: "fair", 2: "good"}, label2id={"bad": 0, "fair": 1, "good": 2}))
    yield ("lm_scalar", "neox", ScalarModel, GPTNeoXConfig(**NEOX, architectures=["GPTNeoXForCausalLM"]))


def randomised(cls, config, seed):
    torch.manual_seed(seed)
    if cls is ScalarModel:
        config = ScalarConfig(base_model="models/the-author's/own/folder", base_config=config,
                              hidden_size=config.hidden_size, bias=0.37)
    model = cls(config).eval().float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            is_norm = name.endswith("weight") and ("norm" in name or ".ln_" in name)
            p.normal_(1.0 if is_norm else 0.0, 0.3)
    return model


def encode(tokenizer, text, end):
    """Special tokens' names inside the text are text; of a long text the end is kept, behind the tokenizer's own start."""
    ids = tokenizer.encode(text).ids
    start = len(ids) - len(tokenizer.encode(text, add_special_tokens=False).ids)
    if end is not None:
        ids = [*ids, end]
    return [*ids[:start], *ids[start:][max(0, len(ids) - MAX_LENGTH):]]


def save(folder, model, tokenizer_file):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config.pop("transformers_version", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    shutil.copyfile(tokenizer_file, folder / "tokenizer.json")


def main():
    for seed, (name, tokenizer_name, cls, config) in enumerate(models()):
        tokenizer_file = HERE.parent / "text" / tokenizer_name / "tokenizer.json"
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        tokenizer.encode_special_tokens = True
        config.vocab_size = tokenizer.get_vocab_size()
        model = randomised(cls, config, seed)
        save(HERE / name, model, tokenizer_file)
        rows = []
        for prompt, response in PAIRS:
            row = {"prompt": prompt, "response": response}
            for key, end in (("plain", None), ("ended", config.eos_token_id)):
                ids = encode(tokenizer, prompt + response, end)
                with torch.no_grad():
                    tokens = torch.tensor([ids])
                    logits = model.score_last(tokens) if cls is ScalarModel else model(tokens).logits
                assert all(math.isfinite(x) for x in logits[0].tolist())
                row[key] = {"ids": ids, "logits": logits[0].double().tolist()}
            rows.append(row)
        (HERE / name / "expected.json").write_text(json.dumps({"max_length": MAX_LENGTH, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
