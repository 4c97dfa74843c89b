"""Writes bon.json: Best-of-N weights in 60 digits (mpmath), exponential fits (scipy), AUC (scipy).

    python make_bon.py        needs mpmath, numpy, scipy

Inputs are float64 (or float32) numbers as printed; outputs are the exact results rounded to float64.
"""

import json
import pathlib

import mpmath as mp
import numpy as np
import scipy.optimize
import scipy.stats

mp.mp.dps = 60
rng = np.random.default_rng(20240706)


def log_weight(a, b, n):
    a, b, n = mp.mpf(a), mp.mpf(b), mp.mpf(n)
    if a == b:
        return mp.log(n) + (n - 1) * mp.log(b)
    # dps 60 does not hold b^n - a^n when a and b are neighbours in float64 and n is near 1; 400 does.
    with mp.workdps(400):
        return mp.log((b**n - a**n) / (b - a))


def slope(a, b, n):
    with mp.workdps(400):
        a, b, n = mp.mpf(a), mp.mpf(b), mp.mpf(n)
        if a == b:
            return mp.log(b) + 1 / n
        low = a**n * mp.log(a) if a > 0 else mp.mpf(0)
        return (b**n * mp.log(b) - low) / (b**n - a**n)


def log_pi_bon(log_p, log_f, n):
    with mp.workdps(1200):
        p = mp.exp(mp.mpf(log_p))
        f = mp.exp(mp.mpf(log_f)) if log_f is not None else mp.mpf(0)
        return mp.log((f + p) ** mp.mpf(n) - f ** mp.mpf(n))


NS = [1.0, 1.0 + 1e-9, 1.5, 2.0, 2.5, 4.0, 16.0, 100.0, 1234.5, 1e4]


def weights():
    rows = []
    for n in NS:
        pairs = [(0.0, 1.0), (0.0, 1e-300), (0.0, 0.3), (0.5, 0.5), (1.0, 1.0), (1e-300, 1.0), (0.999, 1.0)]
        for b in (1.0, 0.73, 1e-8):
            pairs += [(float(np.nextafter(b, 0)), b), (b * (1 - 1e-12), b), (b * (1 - 1e-6), b), (b * 0.9, b)]
        pairs += [tuple(sorted(rng.random(2))) for _ in range(6)]
        for a, b in pairs:
            rows.append([float(a), float(b), n, float(log_weight(a, b, n)), float(slope(a, b, n))])
    return rows


def strings():
    rows = []
    for n in NS:
        for log_p, log_f in [
            (-800.0, -0.5), (-800.0, -3.0), (-745.5, -1e-9), (-40.0, 0.0), (-39.0, -0.7), (-21.0, -1.0), (-19.0, -1.0),
            (-5.0, -0.1), (-0.7, -0.8), (-1e-3, -9.0), (-0.5, -700.0), (-60.0, -20.5), (-60.0, -19.5), (-3.0, None),
            (-700.0, -700.0), (-33.0, -33.5),
        ]:
            rows.append([log_p, log_f, n, float(log_pi_bon(log_p, log_f, n))])
    return rows


def fit(rewards):
    """The paper's curve: least squares of -a exp(-b x) to (reward, log F-hat), F-hat = (strictly worse + 1)/(M + 1)."""
    r = np.sort(rewards.astype(np.float32)).astype(np.float64)
    m = len(r)
    y = np.log((np.searchsorted(r, r, side="left") + 1) / (m + 1))
    mean, sd = r.mean(), r.std()
    z = (r - mean) / sd
    # Only the start differs from the paper's script, which gives none: a grid finds the global minimum.
    best = None
    for b in (0.05, 0.2, 0.5, 1.0, 2.0):
        for a in (0.1, 0.5, 1.0):
            try:
                p, _ = scipy.optimize.curve_fit(lambda x, a, b: -a * np.exp(-b * x), z, y, p0=(a, b), maxfev=20000,
                                                xtol=1e-14, ftol=1e-14, gtol=1e-14)
            except RuntimeError:
                continue
            cost = float(np.sum((y + p[0] * np.exp(-p[1] * z)) ** 2))
            if np.isfinite(cost) and (best is None or cost < best[0]):
                best = (cost, p)
    cost, (a, b) = best
    at = np.linspace(r[0] - 0.2 * sd, r[-1] + 0.5 * sd, 9)
    return {"rewards": r.tolist(), "rate": b / sd, "cost": cost, "x": at.tolist(),
            "y": (-a * np.exp(-b * (at - mean) / sd)).tolist()}


def fits():
    return [
        fit(rng.normal(2.0, 3.0, 64)),
        fit(rng.gumbel(0.0, 1.0, 200)),
        fit(np.log(rng.beta(2.0, 1.0, 100))),
        fit(np.round(rng.normal(0.0, 1.0, 32), 1)),  # ties
        fit(rng.exponential(1e-3, 20) + 5.0),
        fit(-rng.exponential(2.0, 400)),
    ]


def aucs():
    rows = []
    for size in (4, 30, 200):
        scores = np.round(rng.normal(size=size), 1)
        labels = (rng.random(size) < 0.4).astype(int)
        labels[:2] = (0, 1)
        u = scipy.stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
        rows.append({"scores": scores.tolist(), "labels": labels.tolist(),
                     "auc": float(u / ((labels == 1).sum() * (labels == 0).sum()))})
    return rows


out = {"weights": weights(), "strings": strings(), "fits": fits(), "auc": aucs()}
(pathlib.Path(__file__).parent / "bon.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")
