"""`ks POOL`: are m samples enough for F?"""

import argparse
from pathlib import Path

from ..errors import InputError
from ..io import read_pool
from ..output import Output
from .options import add_out, add_reward, done, numbers, reward_of, tell

HELP = "Kolmogorov-Smirnov tests of a pool's first m samples against many: are m enough for F?"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", type=Path, metavar="POOL", help="pool.h5")
    parser.add_argument("--against", default="600", metavar="A", help="samples to compare with, or 'all'; default: 600")
    parser.add_argument("--sizes", metavar="M,M,...", help="sizes of the subsets; default: 5,20,100,200,250")
    add_reward(parser)
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    from .. import ks

    asked = numbers(options.sizes, "--sizes") if options.sizes else None
    if options.against != "all" and (not options.against.isdecimal() or int(options.against) < 2):
        raise InputError(f"--against {options.against}: a whole number from 2 on, or 'all', is needed")
    rewards = reward_of(read_pool(options.pool), options.reward)
    m = rewards.shape[1]
    sizes, against = ks.sizes_and_against(m, asked, 0 if options.against == "all" else int(options.against))
    results = ks.run_tests(rewards, sizes, against)
    without = [size for size in sizes if size + against > m]
    if without:
        rest = f"; --against {m - sizes[-1]} leaves enough" if m - sizes[-1] > sizes[-1] else ""
        named = ", ".join(map(str, without))
        tell(
            [f"No disjoint subsets for m = {named}: they need m + {against} samples a prompt, the pool has {m}{rest}."]
        )
    output, found = Output(options.out), ks.table(results, against, ks.tie_share(rewards))
    output.table("ks", found)
    ks.save_picture(results, against, output)
    print(found.to_markdown())
    return done(output)
