"""Writes ppo.json: rewards, advantages, losses and their gradients as TRL 1.9.0 computes them.

    python make_ppo.py        needs torch, trl==1.9.0

TRL's PPO has its arithmetic inside train(): the lines between two of its own markers are executed here on random data, so
the oracle is TRL's code as installed and nothing is copied. TRL puts the score one position after the end of a response,
where it has a value too; its valid positions are therefore one more than the response's, and the masks written here say so.
"""

import ast
import importlib.metadata
import importlib.util
import json
import pathlib
import textwrap
import types

import torch

assert importlib.metadata.version("trl") == "1.9.0"
# Read, not imported: the module wants packages (pandas, accelerate) that its arithmetic does not use.
_file = pathlib.Path(importlib.util.find_spec("trl").origin).parent / "experimental/ppo/ppo_trainer.py"
_module = ast.parse(_file.read_text())
_names = {"masked_mean", "masked_var", "masked_whiten"}
trl_ppo = types.SimpleNamespace()
for _node in _module.body:
    if getattr(_node, "name", None) in _names or ast.unparse(_node).startswith("INVALID_LOGPROB ="):
        exec(ast.unparse(_node), {"torch": torch}, trl_ppo.__dict__)
for _name in _names:
    getattr(trl_ppo, _name).__globals__.update(trl_ppo.__dict__)
INVALID_LOGPROB = trl_ppo.INVALID_LOGPROB
_trainer = next(n for n in _module.body if getattr(n, "name", None) == "PPOTrainer")
_train = next(n for n in _trainer.body if getattr(n, "name", None) == "train")
torch.set_default_dtype(torch.float64)  # quotients of its integer counts are in the default type
SOURCE = ast.get_source_segment(_file.read_text(), _train)


def lines(first, last):
    """TRL's statements from the line that starts with `first` to the one that starts with `last`, both included."""
    rows = SOURCE.splitlines()
    begin = next(i for i, row in enumerate(rows) if row.strip().startswith(first))
    end = next(i for i, row in enumerate(rows) if i >= begin and row.strip().startswith(last))
    return textwrap.dedent("\n".join(rows[begin : end + 1]))


def case(seed, batch, length, whiten_rewards, gamma, lam, kl_coef, clip, value_clip):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return torch.randn(*shape, generator=g, dtype=torch.float64) * scale

    args = types.SimpleNamespace(kl_estimator="k1", kl_coef=kl_coef, whiten_rewards=whiten_rewards, gamma=gamma, lam=lam,
                                 cliprange=clip, cliprange_value=value_clip)
    sequence_lengths = torch.randint(0, length, (batch,), generator=g)  # index of the last token
    sequence_lengths[0], sequence_lengths[-1] = length - 1, length - 2
    scope = dict(
        torch=torch, args=args, responses=torch.zeros(batch, length), sequence_lengths=sequence_lengths,
        logprobs=-normal(batch, length).abs(), values=normal(batch, length), scores=normal(batch, scale=3.0),
        masked_whiten=trl_ppo.masked_whiten, masked_mean=trl_ppo.masked_mean, INVALID_LOGPROB=INVALID_LOGPROB,
    )
    scope["ref_logprobs"] = scope["logprobs"] + normal(batch, length, scale=0.3)
    inputs = {k: scope[k].clone() for k in ("logprobs", "ref_logprobs", "values", "scores", "sequence_lengths")}
    exec(lines("response_idxs =", "values = torch.masked_fill"), scope)
    exec(lines("logr = ref_logprobs", "rewards[actual_start, actual_end] += scores"), scope)
    raw_rewards = scope["rewards"].clone()
    exec("if args.whiten_rewards:\n" + textwrap.indent(lines("rewards = masked_whiten", "rewards = torch.masked_fill"), "    "), scope)
    exec(lines("lastgaelam = 0", "returns = advantages + values"), scope)
    advantages = scope["advantages"].clone()
    exec(lines("advantages = masked_whiten", "advantages = torch.masked_fill"), scope)

    # One minibatch of everything, with leaf tensors so that autograd gives TRL's gradients.
    new_logprobs = (inputs["logprobs"] + normal(batch, length, scale=0.25)).requires_grad_()
    vpred_temp = (inputs["values"] + normal(batch, length, scale=0.4)).requires_grad_()
    inputs["new_logprobs"], inputs["new_values"] = new_logprobs.detach().clone(), vpred_temp.detach().clone()
    scope.update(new_logprobs=new_logprobs, vpred=vpred_temp, micro_batch_inds=slice(None), mb_values=scope["values"],
                 mb_return=scope["returns"], mb_advantage=scope["advantages"], mb_logprobs=scope["logprobs"])
    exec(lines("new_logprobs = torch.masked_fill", ")"), scope)
    exec(lines("vpred = torch.masked_fill", "pg_loss = masked_mean"), scope)
    exec(lines("pg_clipfrac = masked_mean", ")"), scope)
    scope["pg_loss"].backward()
    scope["vf_loss"].backward()

    result = dict(inputs)
    result.update(
        mask=(~scope["padding_mask"]).int(), mask_p1=(~scope["padding_mask_p1"]).int(), raw_rewards=raw_rewards,
        rewards=scope["rewards"], raw_advantages=advantages, advantages=scope["advantages"], returns=scope["returns"],
        pg_loss=scope["pg_loss"], vf_loss=scope["vf_loss"], pg_clipfrac=scope["pg_clipfrac"],
        vf_clipfrac=scope["vf_clipfrac"], pg_gradient=new_logprobs.grad, vf_gradient=vpred_temp.grad,
        # TRL whitens with the unbiased variance; the biased one, by its own function, is what is wanted here.
        advantages_variance=trl_ppo.masked_var(advantages, ~scope["padding_mask"], unbiased=False),
        advantages_mean=trl_ppo.masked_mean(advantages, ~scope["padding_mask"]),
    )
    result = {k: v.detach().tolist() for k, v in result.items()}
    result.update(whiten_rewards=whiten_rewards, gamma=gamma, lam=lam, kl_coef=kl_coef, clip=clip, value_clip=value_clip)
    return result


cases = [
    case(1, 4, 6, False, 1.0, 0.95, 0.05, 0.2, 0.2),
    case(2, 5, 9, False, 0.97, 0.8, 0.3, 0.1, 0.5),
    case(3, 6, 7, True, 1.0, 0.95, 0.05, 0.2, 0.2),
    case(4, 3, 2, False, 1.0, 1.0, 0.0, 0.3, 0.1),
    case(5, 2, 12, True, 0.9, 0.0, 1.0, 0.2, 1.0),
]
(pathlib.Path(__file__).parent / "ppo.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
