"""How far each structure's step is from the exact one, along a training run of exact natural gradient steps.

``python structures_along_training.py [figure.png]`` (the figure needs matplotlib)
"""

import sys

from sklearn.datasets import load_digits

import grng_ref as gr

DAMPING, STEPS = 0.03, 20
images, labels = load_digits(return_X_y=True)
x, y = images[:256] / 16.0, labels[:256]
problem = gr.Problem(gr.MLP((64, 8, 8, 10), activation="tanh"), gr.Categorical())
theta = problem.init(rng=0)

# (label, structure, damping kind, colour (Okabe and Ito: for all colour visions), marker)
STRUCTURES = [
    ("blocks", "block_diagonal", "exact", "#000000", "o"),
    ("tridiagonal, factored", "tridiagonal_kfac", "factored", "#0072B2", "v"),
    ("K-FAC, factored", "kfac", "factored", "#D55E00", "s"),
    ("K-FAC", "kfac", "exact", "#E69F00", "D"),
    ("EKFAC", "ekfac", "exact", "#009E73", "^"),
    ("optimal Kronecker", "kronecker_optimal", "exact", "#CC79A7", "x"),
    ("unit-wise", "unitwise", "exact", "#56B4E9", "P"),
    ("diagonal", "diagonal", "exact", "#999999", "+"),
]
exact = gr.ngd(problem, lr=1.0, damping=DAMPING)
losses, points, steps, comparisons = [], [], [], {label: [] for label, *_ in STRUCTURES}
for _ in range(STEPS):
    reference, _, info = exact.update(theta, exact.init(theta), x, y)
    for label, structure, kind, *_ in STRUCTURES:
        opt = gr.ngd(problem, lr=1.0, damping=DAMPING, structure=structure, damping_kind=kind)
        comparisons[label].append(gr.compare(opt.update(theta, opt.init(theta), x, y)[0], reference))
    losses, points, steps = [*losses, info.loss], [*points, theta], [*steps, reference]
    theta = theta + 0.3 * reference

print(f"{'relative error (cosine)':24}" + "".join(f"{'step ' + str(k):>14}" for k in range(0, STEPS, 4)))
print(f"{'loss':24}" + "".join(f"{loss:14.3f}" for loss in losses[::4]))
for label, found in comparisons.items():
    print(f"{label:24}" + "".join(f"{c.relative_error:7.2f} ({c.cosine:.2f})" for c in found[::4]))

if len(sys.argv) > 1:
    from matplotlib.figure import Figure

    error, cosine = Figure(figsize=(10.5, 4.4), layout="constrained").subplots(1, 2, sharex=True)
    for label, _, _, colour, marker in STRUCTURES:
        style = {"color": colour, "marker": marker, "fillstyle": "none", "linewidth": 1.2, "label": label}
        error.semilogy([c.relative_error for c in comparisons[label]], **style)
        cosine.plot([c.cosine for c in comparisons[label]], **style)
    error.minorticks_off()
    error.set_yticks([0.2, 0.3, 0.5, 0.7, 1.0, 1.5], ["0.2", "0.3", "0.5", "0.7", "1 (no step)", "1.5"])
    error.set(title="relative error against the exact step", xlabel="training step")
    cosine.set(title="cosine with the exact step", xlabel="training step", xticks=range(0, STEPS, 5))
    error.grid(color="0.9")
    cosine.grid(color="0.9")
    error.figure.legend(*error.get_legend_handles_labels(), loc="outside right center")
    error.figure.savefig(sys.argv[1], dpi=120)
