"""Orders in which implementations keep the parameters of a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...problem import Problem

# Axes of a stage's arrays that run over the parameters.
PARAMETER_AXES = {
    **dict.fromkeys(("gradient", "curvature_product", "damped_solve", "hvp"), (0,)),
    **dict.fromkeys(("regularized_gradient", "delta"), (0,)),
    **dict.fromkeys(("score_rows", "parameters", "belief_mean"), (1,)),
    **dict.fromkeys(("fisher", "belief_covariance"), (0, 1)),
    "jacobian": (2,),
}
LAYOUTS = (
    "bias first",
    "separate",
    "separate, bias first",
    "weights, then biases",
    "column-major",
    "transposed, separate",
    "transposed, bias first",
    "no bias",
)


def places(problem: Problem, layout: str) -> Any:
    """Where in theta the entries of another layout stand: ``theirs = theta[places]``."""
    layers = [np.asarray(m) for m in problem.unpack(np.arange(problem.num_parameters, dtype=np.float64))]
    bias = problem.model.bias
    weights = [m[:, :-1] if bias else m for m in layers]
    biases = [m[:, -1] if bias else m[:, :0].ravel() for m in layers]
    pairs = list(zip(weights, biases, strict=True))
    builders: dict[str, Any] = {
        "bias first": lambda: [
            np.concatenate([b.reshape(-1, 1), W], axis=1) if bias else W for W, b in pairs
        ],
        "separate": lambda: [part for pair in pairs for part in pair],
        "separate, bias first": lambda: [part for W, b in pairs for part in (b, W)],
        "weights, then biases": lambda: [*weights, *biases],
        "column-major": lambda: [m.T for m in layers],
        "transposed, separate": lambda: [part for W, b in pairs for part in (W.T, b)],
        "transposed, bias first": lambda: [part for W, b in pairs for part in (b, W.T)],
        "no bias": lambda: weights,
    }
    parts = builders[layout]()
    return np.concatenate([np.asarray(part).ravel() for part in parts]).astype(int)


def parameter(problem: Problem, index: int, layout: str | None) -> str:
    """Which parameter an entry of a flat vector is: ``layer 1 W[0, 2]``."""
    index = index if layout is None else int(places(problem, layout)[index])
    for layer in problem.model.trainable:
        rows, columns = problem.model.shapes[layer]
        if index < rows * columns:
            row, column = divmod(index, columns)
            last = problem.model.bias and column == columns - 1
            return f"layer {layer} " + (f"b[{row}]" if last else f"W[{row}, {column}]")
        index -= rows * columns
    raise ValueError("index must be that of a parameter")


def reordered(problem: Problem, theta: Any, layout: str) -> Any:
    """What a reader of that layout takes theta for, in our order."""
    where = places(problem, layout)
    if where.size != theta.size:
        return theta
    out = np.empty_like(theta)
    out[where] = theta
    return out


def stage_reordered(problem: Problem, stage: str, array: Any, layout: str) -> Any:
    """An array of a stage in another layout."""
    if stage not in PARAMETER_AXES:
        return array
    where = places(problem, layout)
    for axis in PARAMETER_AXES[stage]:
        array = np.take(array, where, axis=axis)
    return array
