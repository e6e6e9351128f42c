#!/usr/bin/env python3
"""Fits the logistic model of src/face/quality.rs to the features that `visage eval quality DIR --features FILE` writes.

usage: fit-quality.py TRAIN.jsonl [TEST.jsonl ...]

Needs NumPy and SciPy. Every comparison of a damaged or undamaged face with another picture of its person is a sample; the weights are kept at or above
zero, so that more detail, a higher score and less glare never lower the number. Prints the constants, and for every file and model the share of the
possible gain of discarding the worst (error versus discard, 0 to 50 %), of the logistic model alone and of the whole number.
"""

import json
import sys

import numpy as np
from scipy.optimize import minimize

NAMES = ("SCORE", "EYES", "NOSES", "MOUTHS", "GLARE")
L2 = 1e-3


def read(path):
    rows = [json.loads(line) for line in open(path, encoding="utf-8")]
    features, outcome, model, value, rest = [], [], [], [], []
    for row in rows:
        parts = [np.log(max(row["score"], 0.3)), row["eyes"], row["nose"], row["mouth"], -row["clipped"]]
        factor = np.sqrt(np.clip(row["frontality"] / 0.4, 0.2, 1))
        for recognised in row["recognised"]:
            features.append(parts)
            outcome.append(recognised)
            model.append(row["model"])
            value.append(row["value"])
            rest.append(factor)
    return np.array(features), np.array(outcome), np.array(model), np.array(value), np.array(rest)


def fit(x, recognised):
    mean, spread = x.mean(0), x.std(0) + 1e-9
    z, sign = (x - mean) / spread, recognised * 2.0 - 1.0

    def loss(w):
        margin = sign * (z @ w[1:] + w[0])
        miss = 1 / (1 + np.exp(margin))
        slope = np.concatenate([[-(sign * miss).mean()], -(z * (sign * miss)[:, None]).mean(0) + 2 * L2 * w[1:]])
        return np.logaddexp(0, -margin).mean() + L2 * (w[1:] ** 2).sum(), slope

    bounds = [(None, None)] + [(0, None)] * x.shape[1]
    w = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    return w[1:] / spread, w[0] - (mean / spread * w[1:]).sum()


def gain(quality, recognised):
    failing = ~recognised[np.argsort(quality, kind="stable")]
    count, first, all_failing = len(failing), failing.mean(), failing.sum()
    gained = possible = 0.0
    for step in range(1, 11):
        out = round(step * 0.05 * count)
        gained += first - failing[out:].mean()
        possible += first - max(0, all_failing - out) / (count - out)
    return gained / possible if possible > 0 else float("nan")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    x, recognised, *_ = read(sys.argv[1])
    weights, bias = fit(x, recognised)
    print(f"BIAS {bias:.3f}", *(f"{name} {weight:.3f}" for name, weight in zip(NAMES, weights)))
    for path in sys.argv[1:]:
        x, recognised, model, value, rest = read(path)
        p = 1 / (1 + np.exp(-(x @ weights + bias)))
        for name in sorted(set(model)):
            own = model == name
            figures = [gain(q[own], recognised[own]) for q in (p, p * rest, value)]
            print(path, name, "gain of p %.2f, of the number %.2f, of the number in use %.2f" % tuple(figures))


if __name__ == "__main__":
    main()
