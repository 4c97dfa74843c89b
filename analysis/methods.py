"""What every method is called and how it looks, in one place: colours that people with any colour vision tell apart
(Okabe and Ito's first, then darker and lighter ones), and a marker of its own so that a grey print can be read.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .config import lookup
from .plots import GREY, INK, Look

if TYPE_CHECKING:
    from .runs import Run


@dataclass(frozen=True)
class Method:
    """`parameter`: what its strength is given by, "N", "beta", or "" where it has no target of its own; `beta_key`: of
    the configuration, where that is its beta."""

    label: str
    look: Look
    parameter: str
    beta_key: str = ""


METHODS = {
    "vbon": Method("vBoN", Look("#D55E00", "o", "-", size=1.25), "N"),
    "vbon_L": Method("vBoN, bound L", Look("#D55E00", "o", (0, (5, 1.5)), is_open=True, size=1.25), "N"),
    "vbon_L1": Method("vBoN, bound L1", Look("#D55E00", "h", (0, (1, 1)), is_open=True, size=1.25), "N"),
    "vbon_exp_tilt": Method("vBoN, tilt", Look("#A84300", "p", (0, (4, 1, 1, 1)), is_open=True), "N"),
    "vbon_poisson": Method("vBoN, Poisson", Look("#A84300", "8", (0, (2, 1)), is_open=True), "N"),
    "regression": Method("regression", Look("#5D4037", "*", (0, (7, 2)), size=1.35), "N"),
    "infonca": Method("InfoNCA", Look("#117733", "H", (0, (6, 2, 1, 2))), "N"),
    "bond": Method("BOND", Look("#332288", "P", (0, (6, 1, 1, 1, 1, 1))), "N"),
    "jbond": Method("J-BOND", Look("#882255", "<", (0, (3, 1, 1, 1))), ""),
    "jeffreys": Method("Jeffreys", Look("#C9BC5A", ">", (0, (4, 2))), "N"),
    "bonbon": Method("BoNBoN", Look("#CC79A7", "D", (0, (4, 1, 1, 1)), size=0.9), "N"),
    "bon_sft": Method("BoN-SFT", Look("#E69F00", "X", (0, (2, 1))), "N"),
    "ppo": Method("PPO", Look("#0072B2", "s", (0, (5, 1.5)), size=0.95), "beta", "ppo.kl_coef"),
    "dpo": Method("DPO", Look("#009E73", "^", (0, (1, 1))), "beta", "preference.beta"),
    "ipo": Method("IPO", Look("#56B4E9", "v", (0, (1, 2))), "beta", "preference.beta"),
    "slic": Method("SLiC", Look("#44AA99", "d", (0, (3, 2)), size=1.2), "beta", "preference.beta"),
    "reference": Method("reference", Look(GREY, "_", (0, (2, 3))), "N"),
}
BON = Method("best-of-N", Look(INK, "s", "-", is_open=True, size=0.8), "N")


def method_key(run: "Run") -> str:
    """The method, or the variant of it that the configuration asks for."""
    if run.method != "vbon":
        return run.method
    target = lookup(run.config, "vbon.target", "bon")
    variant = f"vbon_{target}" if target != "bon" else f"vbon_{lookup(run.config, 'vbon.objective', 'exact')}"
    return variant if variant in METHODS else "vbon"


def method_of(key: str) -> Method:
    """One that is not known yet is called by its key and drawn in grey."""
    return METHODS.get(key) or Method(key, Look("#777777", ".", (0, (3, 1))), "N")


def in_order(keys: set[str]) -> list[str]:
    """As METHODS lists them, unknown ones last."""
    known = list(METHODS)
    return sorted(keys, key=lambda key: (known.index(key) if key in METHODS else len(known), key))
