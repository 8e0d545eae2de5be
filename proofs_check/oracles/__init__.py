"""Independent references: definitions written out, with slow loops, for tests and claims.

Imports nothing of grng_ref, and no array library but NumPy. Nothing here is fast or clever; each function is
its own definition. Vectors of parameters follow the project's convention: the trainable layer matrices
``Wbar = [W | b]`` in order, each row-major, with ``s_l = c_l W_l a_{l-1} + b_l``.

All functions of a parameter vector accept complex parameters, so that `complex_step_gradient` differentiates
them without subtraction: ``Im f(x + i h e) / h`` has the error O(h^2) and no cancellation, so with h = 1e-30
only the rounding of f itself is left. That rounding is relative to the largest term of a derivative, so the
tiny gradient of a saturated softmax or sigmoid needs another reference (high precision).
"""

from .bayes import ekf_update, linear_gaussian_posterior, mean_space_observation
from .differences import (
    COMPLEX_STEP,
    central_directional,
    central_jacobian,
    circle_hessian,
    complex_step_directional,
    complex_step_gradient,
    complex_step_jacobian,
    hessian,
)
from .fisher import fisher, kfac_factors, kronecker, nearest_kronecker, score_moments
from .likelihoods import (
    example_gradients,
    example_loss,
    labels_with_probabilities,
    loss_slope,
    mean_loss,
    mean_minus_label,
    output_fisher,
    output_mean,
)
from .network import (
    ACTIVATIONS,
    SLOPES,
    forward_example,
    layer_matrices,
    layer_scales,
    mlp_outputs,
    pull_back_example,
)

__all__ = [
    "ACTIVATIONS",
    "COMPLEX_STEP",
    "SLOPES",
    "central_directional",
    "central_jacobian",
    "circle_hessian",
    "complex_step_directional",
    "complex_step_gradient",
    "complex_step_jacobian",
    "ekf_update",
    "example_gradients",
    "example_loss",
    "fisher",
    "forward_example",
    "hessian",
    "kfac_factors",
    "kronecker",
    "labels_with_probabilities",
    "layer_matrices",
    "layer_scales",
    "linear_gaussian_posterior",
    "loss_slope",
    "mean_loss",
    "mean_minus_label",
    "mean_space_observation",
    "mlp_outputs",
    "nearest_kronecker",
    "output_fisher",
    "output_mean",
    "pull_back_example",
    "score_moments",
]
