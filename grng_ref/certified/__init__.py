"""Ground truth: exact rationals and balls, from stored floats, by a second implementation.

Nothing here shares a formula with the rest of the package; of its rooms only `arrays` is imported. Floating
arguments of either dtype and of any backend are copied to the host and taken as the exact numbers that they
store, so they need not agree in dtype. The arithmetic is python-flint's (``pip install 'grng-ref[verify]'``).

    from grng_ref.certified import exact_posterior, gram_enclosure, kalman_enclosure, network_enclosure
"""

from .enclosure import Enclosure
from .exact import ExactGaussian, exact_log_marginal_likelihood, exact_posterior
from .gram import gram_enclosure
from .kalman import KalmanEnclosures, kalman_enclosure
from .network import NetworkEnclosures, network_enclosure, residual_enclosure
from .spectrum import eigenvalue_bounds, eigenvalue_enclosure, norm_bounds
from .stages import StageEnclosures, stage_enclosures

__all__ = [
    "Enclosure",
    "ExactGaussian",
    "KalmanEnclosures",
    "NetworkEnclosures",
    "StageEnclosures",
    "eigenvalue_bounds",
    "eigenvalue_enclosure",
    "exact_log_marginal_likelihood",
    "exact_posterior",
    "gram_enclosure",
    "kalman_enclosure",
    "network_enclosure",
    "norm_bounds",
    "residual_enclosure",
    "stage_enclosures",
]
