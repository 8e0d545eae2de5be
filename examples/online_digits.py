"""R-Kalman's beliefs beside AdamW on real digits, online: one pass, eight examples at a time, five seeds.

``python online_digits.py [figure.png]`` (the figure needs matplotlib). Every prior variance, and AdamW's step
size, is the best of a small grid on two other splits of the data.
"""

import sys

import numpy as np
from sklearn.datasets import load_digits

import grng_ref as gr

SEEDS, BATCH, TRAINING, EVERY = 5, 8, 1440, 15
images, labels = load_digits(return_X_y=True)
x, LAYERS = images / 16.0, (8 * 65, 10 * 9)
problem = gr.Problem(gr.MLP((64, 8, 10), activation="tanh"), gr.Categorical())
# name -> (belief (None: AdamW), its options, colour (Okabe and Ito: for all colour visions), marker)
METHODS = {
    "full": (gr.full_belief, {"prior_variance": 0.3}, "#000000", "o"),
    "blocks": (gr.block_diagonal_belief, {"prior_variance": 0.3, "blocks": LAYERS}, "#0072B2", "s"),
    "low rank (16)": (gr.low_rank_belief, {"prior_variance": 0.3, "rank": 16}, "#009E73", "^"),
    "diagonal": (gr.diagonal_belief, {"prior_variance": 0.3}, "#D55E00", "v"),
    "precision": (gr.diagonal_belief, {"prior_variance": 0.1, "projection": "precision"}, "#E69F00", "D"),
    "AdamW": (None, {"lr": 0.03}, "#CC79A7", "x"),
}
runs, curves = [], {name: [] for name in METHODS}
for seed in range(SEEDS):
    order, start = np.random.default_rng(seed).permutation(len(x)), problem.init(rng=seed)
    test, batches = order[TRAINING:], np.split(order[:TRAINING], TRAINING // BATCH)
    for name, (belief, options, *_) in METHODS.items():
        prior = belief and belief(start, **options)
        opt = gr.rkalman(problem, belief=prior) if prior else gr.adamw(problem, **options)
        theta, state, curve = start, opt.init(start), []
        for k, batch in enumerate(batches):
            theta, state, _ = opt.step(theta, state, x[batch], labels[batch])
            if (k + 1) % EVERY == 0:
                curve.append(np.mean(problem.outputs(theta, x[test]).argmax(axis=1) == labels[test]))
        curves[name].append(curve)
        runs.append((name, seed, theta, state))

print(f"test accuracy after one pass, {SEEDS} seeds:  mean   lowest highest")
for name, curve in curves.items():
    final = np.array(curve)[:, -1]
    print(f"{name:38} {final.mean():.3f}  {final.min():.3f}  {final.max():.3f}")

if len(sys.argv) > 1:
    from matplotlib.figure import Figure

    axes = Figure(figsize=(8.5, 4.8), layout="constrained").subplots()
    for name, (*_, colour, marker) in METHODS.items():
        seen, error = BATCH * EVERY * (1 + np.arange(len(curves[name][0]))), 1 - np.array(curves[name])
        axes.semilogy(seen, error.mean(axis=0), color=colour, marker=marker, fillstyle="none", label=name)
        axes.fill_between(seen, error.min(axis=0), error.max(axis=0), color=colour, alpha=0.08, linewidth=0)
    axes.set(title=f"test error online: mean and range of {SEEDS} seeds", xlabel="examples seen, each once")
    axes.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["2 %", "5 %", "10 %", "20 %", "50 %"])
    axes.minorticks_off()
    axes.legend(loc="upper right")
    axes.figure.savefig(sys.argv[1], dpi=120)
