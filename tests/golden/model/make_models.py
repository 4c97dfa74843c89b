"""Small random models of every architecture with what `transformers` computes from them.

Each case is a folder NAME/: config.json and model.safetensors as save_pretrained writes them, and expected.safetensors
with the inputs, logits, loss and the gradient of every named weight. Run: python make_models.py (torch, transformers).
"""
import json
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import save_file
from transformers import (BertConfig, BertForSequenceClassification, BertModel, DistilBertConfig,
                          DistilBertForSequenceClassification, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig,
                          GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM)

HERE = pathlib.Path(__file__).parent

LLAMA = dict(vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, max_position_embeddings=64)
GPT2 = dict(vocab_size=61, bos_token_id=0, eos_token_id=0, n_embd=24, n_layer=2, n_positions=64, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
NEOX = dict(vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, max_position_embeddings=64,
            hidden_dropout=0.0, attention_dropout=0.0)
BERT = dict(vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, max_position_embeddings=64,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
DISTIL = dict(vocab_size=61, dim=24, hidden_dim=40, n_layers=2, max_position_embeddings=64, dropout=0.0,
              attention_dropout=0.0, seq_classif_dropout=0.0)

CAUSAL = {
    "llama_gqa_tied": (LlamaForCausalLM, LlamaConfig(**LLAMA, num_attention_heads=6, num_key_value_heads=2, head_dim=4, tie_word_embeddings=True)),
    "llama_mha_untied": (LlamaForCausalLM, LlamaConfig(**LLAMA, num_attention_heads=3, num_key_value_heads=3, tie_word_embeddings=False)),
    "llama_biases_wide_heads": (LlamaForCausalLM, LlamaConfig(**LLAMA, num_attention_heads=3, num_key_value_heads=1, head_dim=10, attention_bias=True, mlp_bias=True)),
    "llama_rope_llama3": (LlamaForCausalLM, LlamaConfig(**LLAMA, num_attention_heads=3, num_key_value_heads=1, rope_parameters={"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16})),
    "llama_rope_linear": (LlamaForCausalLM, LlamaConfig(**LLAMA, num_attention_heads=3, num_key_value_heads=3, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5})),
    "gpt2": (GPT2LMHeadModel, GPT2Config(**GPT2, n_head=3)),
    "gpt2_inner_scaled": (GPT2LMHeadModel, GPT2Config(**GPT2, n_head=4, n_inner=36, activation_function="relu", scale_attn_by_inverse_layer_idx=True)),
    "neox_parallel": (GPTNeoXForCausalLM, GPTNeoXConfig(**NEOX, num_attention_heads=3, rotary_pct=0.25, use_parallel_residual=True)),
    "neox_serial_tied": (GPTNeoXForCausalLM, GPTNeoXConfig(**NEOX, num_attention_heads=2, rotary_pct=0.5, use_parallel_residual=False, tie_word_embeddings=True)),
}
ENCODERS = {
    "bert_classifier": (BertForSequenceClassification, BertConfig(**BERT, num_attention_heads=3, num_labels=2)),
    "bert_one_label": (BertForSequenceClassification, BertConfig(**BERT, num_attention_heads=2, num_labels=1, hidden_act="relu")),
    "bert_sentence": (BertModel, BertConfig(**BERT, num_attention_heads=3)),
    "distilbert_classifier": (DistilBertForSequenceClassification, DistilBertConfig(**DISTIL, n_heads=3, num_labels=3)),
}


def randomised(cls, config, seed):
    """Large random weights everywhere (norms and biases too), so that every term shows in the output."""
    torch.manual_seed(seed)
    model = cls(config).eval().float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(0.0, 0.2)
            if "norm" in name.lower() or ".ln_" in name:
                p.add_(1.0 if name.endswith("weight") else 0.0)
    return model


def save(name, model, expected):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("transformers_version", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file({k: v.detach().contiguous().clone() for k, v in expected.items()}, str(folder / "expected.safetensors"))


def causal(name, cls, config, seed):
    model = randomised(cls, config, seed)
    lengths = torch.tensor([11, 5, 8])
    tokens = torch.randint(0, config.vocab_size, (3, 11))
    mask = torch.arange(11)[None, :] < lengths[:, None]
    tokens = torch.where(mask, tokens, torch.zeros_like(tokens))
    logits = model(tokens, attention_mask=mask.long(), use_cache=False).logits
    logp = torch.log_softmax(logits[:, :-1], -1).gather(-1, tokens[:, 1:, None])[..., 0]
    loss = -(logp * mask[:, 1:]).sum() / mask[:, 1:].sum()
    loss.backward()
    expected = {"tokens": tokens, "lengths": lengths, "logits": torch.where(mask[..., None], logits, 0.0), "loss": loss.reshape(1)}
    expected |= {"grad." + n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    save(name, model, expected)


def encoder(name, cls, config, seed):
    model = randomised(cls, config, seed)
    lengths = torch.tensor([9, 4, 7])
    tokens = torch.randint(1, config.vocab_size, (3, 9))
    mask = torch.arange(9)[None, :] < lengths[:, None]
    tokens = torch.where(mask, tokens, torch.zeros_like(tokens))
    out = model(tokens, attention_mask=mask.long())
    if cls is BertModel:  # sentence embedding: the mean over real tokens
        hidden = out.last_hidden_state
        result = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    else:
        result = out.logits
    loss = (result * torch.linspace(-1.0, 1.0, result.numel()).view_as(result)).sum()
    loss.backward()
    expected = {"tokens": tokens, "lengths": lengths, "output": result, "loss": loss.reshape(1)}
    expected |= {"grad." + n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    save(name, model, expected)


if __name__ == "__main__":
    print("transformers", transformers.__version__, "torch", torch.__version__)
    for seed, (name, (cls, config)) in enumerate(CAUSAL.items()):
        causal(name, cls, config, seed)
    for seed, (name, (cls, config)) in enumerate(ENCODERS.items()):
        encoder(name, cls, config, 100 + seed)
