"""What is normalised how, in one frozen record; reports carry a copy of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conventions:
    """The conventions of this package, each in one sentence; `docs/conventions.md` gives the reasons."""

    parameters: str = (
        "one flat vector: the trainable layer matrices [W | b] in order, each row-major, bias column last"
    )
    layer: str = "s = [W | b] abar with abar = [c a; 1]: the scale c multiplies the input, not the bias"
    output: str = "the network output f is the natural parameter of the likelihood (logit, log rate, mean)"
    loss: str = "mean over examples; terms constant in the parameters are left out"
    log_likelihood: str = "sum over examples of log p(y | x, theta), with the terms that the loss leaves out"
    squared_loss: str = "|f - y|^2 / (2 variance)"
    gradient: str = "gradient of the mean loss"
    fisher: str = "mean over examples of J^T Om J, Om the output Fisher (expected, unless named otherwise)"
    score_rows: str = "F = B^T B; expected: B stacks S^T J / sqrt(N), example-major, with S S^T = Om"
    monte_carlo: str = "rows are gradients on labels drawn from the model, over sqrt(N * number of draws)"
    kronecker: str = "block of layer l ~ G kron A (row-major); A and G are each means over examples"
    damping: str = "added to the mean-normalised curvature: (C + damping I)^{-1}"
    factored_damping: str = "(G + sqrt(a)/pi I) kron (A + pi sqrt(a) I), pi^2 = (tr A/dim A)/(tr G/dim G)"
    gradient_regularization: str = "RING: damping + rho |g|^2; RENG: g + rho H g, gradient of L + rho/2 |g|^2"
    kalman_information: str = "a sum over examples: Y + N F; regularization adds N rho |g|^2 I or N rho H^2"
    step: str = "delta is added to the parameters: theta + delta"


CONVENTIONS = Conventions()
