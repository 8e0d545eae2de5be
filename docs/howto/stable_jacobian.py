"""An assumption of one's own: the Jacobian of a two-layer network is stable near its initialisation."""

import numpy as np

import grng_ref as gr
from proofs_check import claim, decided
from proofs_check.bounds import prove


@claim(
    "jacobian-is-stable",
    statement="|J(w) - J(w_0)| <= limit within a distance of radius of the initialisation w_0.",
    source="assumed in our proof",
    kind="inequality",
    expected="certified",
    params={"width": 256, "activation": "tanh", "radius": 0.5, "limit": 0.1},
)
def jacobian_is_stable(run, width, activation, radius, limit):
    """Fails if the network is too narrow. Control: a ball a hundred times as large."""
    rng = run.rng(1)
    x = rng.normal(size=(4, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    problem = gr.Problem(gr.two_layer(8, width, activation), gr.Gaussian())
    theta = problem.init(rng)

    def finding(radius):
        change = prove("jacobian_change", problem, theta, x, radius)
        text = f"{activation}, width {width}, radius {radius:g}"
        return decided(change.bound, at_most=limit, detail=text, proofs=[change])

    return finding(radius).with_control(finding(100 * radius))


@claim(
    "gram-matrix-is-definite",
    statement="lmin(J J^T) >= least at the initialisation.",
    source="assumed in our proof",
    kind="inequality",
    expected="certified",
    params={"width": 256, "least": 0.05},
)
def gram_matrix_is_definite(run, width, least):
    """Fails if the Gram matrix is nearly singular. Control: the same example twice."""
    rng = run.rng(2)
    x = rng.normal(size=(4, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    problem = gr.Problem(gr.two_layer(8, width, "tanh"), gr.Gaussian())
    theta = problem.init(rng)

    def finding(x):
        found = prove("gram_min", problem, theta, x)
        return decided(found.bound, at_least=least, detail=f"tanh, width {width}", proofs=[found])

    return finding(x).with_control(finding(np.concatenate([x[:3], x[:1]])))
