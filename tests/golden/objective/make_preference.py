"""Writes preference.json: DPO, IPO and leave-one-out advantages as TRL 1.9.0 computes them, with autograd's gradients.

    python make_preference.py        needs torch, trl==1.9.0

TRL has this arithmetic inside its trainers: the statements are executed here on random data, so the oracle is TRL's code
as installed and nothing is copied. Label smoothing is that of its `aot` loss, which for a single pair is conservative DPO.
"""

import ast
import importlib.metadata
import importlib.util
import json
import pathlib
import textwrap
import types

import torch
import torch.nn.functional as F

assert importlib.metadata.version("trl") == "1.9.0"
torch.set_default_dtype(torch.float64)
ROOT = pathlib.Path(importlib.util.find_spec("trl").origin).parent / "trainer"
DPO, RLOO = ((ROOT / name).read_text() for name in ("dpo_trainer.py", "rloo_trainer.py"))


def branch(source, loss_type):
    """TRL's statements for one loss."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If) and ast.unparse(node.test) == f"loss_type == '{loss_type}'":
            return "\n".join(ast.unparse(statement) for statement in node.body)
    raise SystemExit(f"TRL has no loss {loss_type}")


def lines(source, first, last):
    rows = source.splitlines()
    begin = next(i for i, row in enumerate(rows) if row.strip().startswith(first))
    end = next(i for i, row in enumerate(rows) if i >= begin and row.strip().startswith(last))
    return textwrap.dedent("\n".join(rows[begin : end + 1]))


def pair(generator, loss_type, beta, smoothing, lengths):
    def normal(scale):
        return torch.randn(1, generator=generator) * scale

    ref_chosen, ref_rejected = -20 + normal(5), -20 + normal(5)
    chosen = (ref_chosen + normal(3)).requires_grad_()
    rejected = (ref_rejected + normal(3)).requires_grad_()
    mask = torch.zeros(2, max(lengths))
    mask[0, : lengths[0]] = 1
    mask[1, : lengths[1]] = 1
    scope = dict(torch=torch, F=F, chosen_logps=chosen, rejected_logps=rejected, ref_chosen_logps=ref_chosen,
                 ref_rejected_logps=ref_rejected, completion_mask=mask,
                 self=types.SimpleNamespace(beta=beta, label_smoothing=smoothing, f_divergence_type="reverse_kl"))
    exec(lines(DPO, "chosen_logratios =", "rejected_logratios ="), scope)
    scope["chosen_scores"], scope["rejected_scores"] = scope["chosen_logratios"], scope["rejected_logratios"]
    scope["delta_score"] = scope["chosen_scores"] - scope["rejected_scores"]
    exec(branch(DPO, loss_type), scope)
    loss = scope["per_sequence_loss"].sum()
    loss.backward()
    return dict(beta=beta, label_smoothing=smoothing, lengths=lengths, chosen=chosen.item(), rejected=rejected.item(),
                ref_chosen=ref_chosen.item(), ref_rejected=ref_rejected.item(), loss=loss.item(),
                chosen_gradient=chosen.grad.item(), rejected_gradient=rejected.grad.item())


def leave_one_out(generator, prompts, samples):
    rewards = torch.randn(prompts * samples, generator=generator)
    scope = dict(torch=torch, rewards=rewards, num_generations=samples)
    exec(lines(RLOO, "grouped_rewards =", "grouped_rewards ="), scope)
    exec(lines(RLOO, "scorable_counts =", "grouped_sum ="), scope)
    exec(lines(RLOO, "baselines = (", "advantages = rewards - baselines"), scope)
    return dict(samples=samples, rewards=rewards.tolist(), advantages=scope["advantages"].tolist())


g = torch.Generator().manual_seed(7)
result = {
    "dpo": [pair(g, "sigmoid", beta, 0.0, (3, 5)) for beta in (0.01, 0.1, 1.0, 5.0)]
    + [pair(g, "aot", beta, smoothing, (4, 2)) for beta in (0.1, 2.0) for smoothing in (0.1, 0.3)],
    "ipo": [pair(g, "ipo", beta, 0.0, lengths) for beta in (0.05, 0.5, 2.0) for lengths in ((1, 1), (7, 4), (2, 9))],
    "rloo": [leave_one_out(g, prompts, samples) for prompts, samples in ((1, 2), (3, 4), (2, 7))],
    "slic": [pair(g, "hinge", beta, 0.0, lengths) for beta in (0.05, 0.3, 2.0) for lengths in ((3, 5), (4, 2))],
}
(pathlib.Path(__file__).parent / "preference.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")
