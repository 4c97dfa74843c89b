"""`cdf POOL`: F and log F from few and from many samples."""

import argparse
from pathlib import Path

from ..errors import InputError
from ..io import read_pool
from ..output import Output
from .options import add_out, add_reward, done, numbers, prompt_ids, reward_of

HELP = "estimates of F and log F by number of samples, for an adversarial, a typical and the best prompt of a pool"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", type=Path, metavar="POOL", help="pool.h5")
    parser.add_argument(
        "--prompts", metavar="ID,ID,...", help="ids of prompts; default: lowest, middle, highest reward"
    )
    parser.add_argument(
        "--sizes", metavar="M,M,...", help="sizes of the subsets; default: 5,20,100,200,400,... and all"
    )
    add_reward(parser)
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    from .. import pool_cdf

    pool = read_pool(options.pool)
    rewards = reward_of(pool, options.reward)
    sizes = numbers(options.sizes, "--sizes") if options.sizes else pool_cdf.default_sizes(rewards.shape[1])
    if sizes[-1] > rewards.shape[1]:
        raise InputError(f"--sizes {sizes[-1]}: '{options.pool}' has {rewards.shape[1]} samples a prompt")
    chosen = pool_cdf.choose(pool, rewards, prompt_ids(options.prompts))
    output = Output(options.out)
    pool_cdf.save_picture(pool, rewards, chosen, sizes, output)
    output.table("cdf", pool_cdf.table(pool, rewards, chosen, sizes))
    return done(output)
