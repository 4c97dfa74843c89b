"""Sampling throughput beside `transformers` generate: same weights, dtype, threads, prompts and lengths, in one run.

    python tests/bench/compare_generate.py BENCH_BINARY MODEL [--rounds 5] [-o results.md]

Both sides take turns, so that a machine that changes its speed changes it for both; a row gives the medians over the
rounds, and the ratio's median and range. `products` is what the matrix products of the decoding steps alone take at
that number of rows (the engine's own layout), and `of products` is that time over the engine's time per decoding step.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

import torch
import transformers

# (sequences, samples per prompt, prompt tokens, new tokens, the ratio asked for)
CASES = [(1, 1, 8, 64, 1.5), (32, 1, 8, 32, 2.5), (128, 1, 8, 32, 2.0), (64, 64, 512, 32, 4.0)]


def make_prompts(count, length, vocabulary):
    generator = torch.Generator().manual_seed(length)
    return torch.randint(5, vocabulary - 5, (count, length), generator=generator)


def hf_tokens_per_s(model, prompts, per_prompt, new_tokens):
    inputs = prompts.repeat_interleave(per_prompt, dim=0)
    begin = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=True, temperature=0.7, top_k=0,
                             max_new_tokens=new_tokens, min_new_tokens=new_tokens, pad_token_id=0)
    seconds = time.perf_counter() - begin
    assert out.shape == (inputs.shape[0], inputs.shape[1] + new_tokens)
    return inputs.shape[0] * new_tokens / seconds


def our_figures(binary, folder, threads, prompts_file, per_prompt, new_tokens):
    done = subprocess.run([binary, folder, str(threads), prompts_file, str(per_prompt), str(new_tokens), "1"], check=True,
                          capture_output=True, text=True, env=dict(os.environ, OMP_NUM_THREADS=str(threads)))
    return json.loads(done.stdout)


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    lines = [f"{processor()}, {options.threads} threads, fp32, torch {torch.__version__}, transformers "
             f"{transformers.__version__}, {options.rounds} rounds, {pathlib.Path(options.model).name}", "",
             "| sequences | prompt | new | transformers tok/s | vbon tok/s | ratio (range) | asked | products tok/s | of products |",
             "|---|---|---|---|---|---|---|---|---|"]
    for sequences, per_prompt, length, new_tokens, asked in CASES:
        prompts = make_prompts(sequences // per_prompt, length, model.config.vocab_size)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("".join(" ".join(map(str, row)) + "\n" for row in prompts.tolist()))
            file.flush()
            hf_tokens_per_s(model, prompts, per_prompt, 4)  # warm
            theirs, ours = [], []
            for _ in range(options.rounds):
                theirs.append(hf_tokens_per_s(model, prompts, per_prompt, new_tokens))
                ours.append(our_figures(options.binary, options.model, options.threads, file.name, per_prompt, new_tokens))
        ratios = sorted(o["tokens_per_s"] / t for o, t in zip(ours, theirs))
        shares = [o["products_step_s"] * o["steps"] / (o["median_s"] - o["prefill_s"]) for o in ours]
        median = statistics.median
        lines.append(f"| {sequences}{f' of one prompt' if per_prompt > 1 else ''} | {length} | {new_tokens} | {median(theirs):.1f} | "
                     f"{median(o['tokens_per_s'] for o in ours):.1f} | {median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f}) | "
                     f"{asked}x | {median(o['products_tokens_per_s'] for o in ours):.0f} | {median(shares):.0%} |")
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    if options.output:
        pathlib.Path(options.output).write_text("# Sampling: vbon beside transformers\n\n" + text)


if __name__ == "__main__":
    main()
