"""Claims of a user: run them with ``proofs-check run docs/howto/fisher_mean.py``."""

import numpy as np

import grng_ref as gr
from proofs_check import claim, identity


@claim(
    "fisher-is-a-mean-over-examples",
    statement="The Fisher of two halves of a batch, averaged, is the Fisher of the batch.",
    source="classical: F is an average over examples",
    kind="identity",
    params={"sizes": [3, 5, 2], "examples": 8},
)
def fisher_is_a_mean(run, sizes, examples):
    """Fails if the Fisher is a sum over examples, or is normalised by anything but their number."""
    problem = gr.Problem(gr.MLP(tuple(sizes)), gr.Poisson())
    x = run.asarray(run.rng(1).normal(size=(examples, sizes[0])))
    theta = problem.init(rng=run.rng(2), backend=run.backend, dtype=run.dtype, device=run.device)

    def fisher(rows):
        return gr.fisher(problem, theta, rows).to_dense()

    half = examples // 2
    whole, first, second = fisher(x), fisher(x[:half, :]), fisher(x[half:, :])

    def finding(weight):
        return identity(
            weight * (first + second),
            whole,
            tolerance=32 * np.sqrt(examples) * run.eps,
            reason="sums of products over the examples: rounding grows like the root of their number",
            detail=f"one batch of {examples} examples, network {sizes}",
        )

    # The control sums where the claim averages: the same check must refuse it.
    return finding(0.5).with_control(finding(1.0))
