"""Are our samples distributed as those of `transformers`? First tokens by chi-square, rewards and lengths by two-sample tests.

    python tests/bench/agree_generate.py VBON CONFIG POOL --model REFERENCE [--prompts 24] [-o results.md]

POOL (written by `vbon pool` with CONFIG) holds our samples; transformers draws as many to the same prompts, with the same
weights, temperature and length, and `vbon score` scores them with the reward that scored the pool.

First tokens: for each prompt the contingency of our counts and theirs, tokens rarer than 10 together put into one cell;
the statistics of all prompts and their degrees of freedom are added up. Rewards: Kolmogorov-Smirnov over all samples
after taking each prompt's joint ranks, so that prompts do not hide differences. Lengths: chi-square over all prompts.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import h5py
import numpy as np
import scipy.stats
import torch
import transformers


def ours(path, num_prompts):
    with h5py.File(path) as file:
        offset, tokens = file["prompt/offset"][()], file["prompt/tokens"][()]
        return {"texts": [text.decode() for text in file["prompt/text"][()]][:num_prompts],
                "prompts": [tokens[a:b] for a, b in zip(offset, offset[1:])][:num_prompts],
                "tokens": file["sample/tokens"][:num_prompts], "length": file["sample/length"][:num_prompts],
                "reward": file["reward/main/value"][:num_prompts], "temperature": float(file.attrs["temperature"]),
                "new_tokens": int(file.attrs["max_new_tokens"]), "eos": int(file.attrs["eos_ids"][0]),
                "reference": file.attrs["reference_sha256"]}


def theirs(model, pool, count):
    """[P, M, T] tokens, -1 after the end."""
    out = np.full(pool["tokens"].shape, -1)
    for row, prompt in enumerate(pool["prompts"]):
        inputs = torch.tensor(np.tile(prompt, (count, 1)), dtype=torch.long)
        with torch.inference_mode():
            drawn = model.generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=True, top_k=0, top_p=1.0,
                                   temperature=pool["temperature"], max_new_tokens=pool["new_tokens"],
                                   eos_token_id=pool["eos"], pad_token_id=pool["eos"])[:, inputs.shape[1]:].numpy()
        for m, tokens in enumerate(drawn):
            end = np.flatnonzero(tokens == pool["eos"])
            length = end[0] + 1 if len(end) else len(tokens)
            out[row, m, :length] = tokens[:length]
    return out


def scores(vbon, config, pool, tokens, tokenizer):
    with tempfile.TemporaryDirectory() as folder:
        texts = pathlib.Path(folder) / "texts.jsonl"
        with open(texts, "w") as file:
            for row, text in enumerate(pool["texts"]):
                for sample in tokens[row]:
                    response = tokenizer.decode(sample[sample >= 0], skip_special_tokens=True, clean_up_tokenization_spaces=False)
                    file.write(json.dumps({"prompt": text, "response": response}) + "\n")
        done = subprocess.run([vbon, "score", "-c", config, "--quiet", "--texts", texts], check=True, capture_output=True, text=True)
    return np.array([json.loads(line)["reward"] for line in done.stdout.splitlines() if line.startswith("{")]).reshape(tokens.shape[:2])


def chi_square(a, b, rare=10):
    """Statistic and degrees of freedom of the 2 x K contingency of two sets of labels."""
    labels, place = np.unique(np.concatenate([a, b]), return_inverse=True)
    counts = np.array([np.bincount(place[:len(a)], minlength=len(labels)), np.bincount(place[len(a):], minlength=len(labels))])
    common = counts.sum(0) >= rare
    rest = counts[:, ~common].sum(1, keepdims=True)
    counts = np.concatenate([counts[:, common], rest], 1) if rest.sum() else counts
    if counts.shape[1] < 2:
        return 0.0, 0
    found = scipy.stats.chi2_contingency(counts, correction=False)
    return float(found.statistic), int(found.dof)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vbon")
    parser.add_argument("config")
    parser.add_argument("pool")
    parser.add_argument("--model", required=True, help="model.reference of the configuration")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", type=pathlib.Path)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    pool = ours(options.pool, options.prompts)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    count = pool["tokens"].shape[1]
    other = theirs(model, pool, count)
    reward = scores(options.vbon, options.config, pool, other, tokenizer)

    first = [chi_square(a[:, 0], b[:, 0]) for a, b in zip(pool["tokens"], other)]
    statistic, freedom = sum(s for s, _ in first), sum(d for _, d in first)
    ranks = np.array([scipy.stats.rankdata(np.concatenate([a, b])) for a, b in zip(pool["reward"], reward)])
    ks = scipy.stats.ks_2samp(ranks[:, :count].ravel(), ranks[:, count:].ravel())
    length = chi_square(pool["length"].ravel(), (other >= 0).sum(-1).ravel())
    lines = [f"{len(pool['texts'])} prompts x {count} samples a side, temperature {pool['temperature']}, at most {pool['new_tokens']} "
             f"new tokens, reference {pool['reference'][:12]}; transformers {transformers.__version__}, torch {torch.__version__}",
             "", "| compared | statistic | p |", "|---|---|---|",
             f"| first tokens, chi-square summed over prompts | {statistic:.1f} at {freedom} degrees of freedom | {scipy.stats.chi2.sf(statistic, freedom):.3f} |",
             f"| rewards, Kolmogorov-Smirnov on ranks within prompts | {ks.statistic:.4f} | {ks.pvalue:.3f} |",
             f"| lengths, chi-square | {length[0]:.1f} at {length[1]} degrees of freedom | {scipy.stats.chi2.sf(*length):.3f} |",
             "", f"mean reward {pool['reward'].mean():.4f} and {reward.mean():.4f}, mean length {pool['length'].mean():.3f} and {(other >= 0).sum(-1).mean():.3f}"]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("# Our samples and those of transformers\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
