"""grng_ref: gradient-regularized natural gradients, as a reference for other implementations.

Functions on arrays of NumPy, CuPy, PyTorch, JAX or array-api-strict: exact and structured Fisher matrices,
NGD, RING, RENG and R-Kalman on small networks with hand-written derivatives.
"""

__version__ = "0.1.0"

from .arrays import BackendError, NumericalError, asarray, to_numpy
from .beliefs import (
    Belief,
    BlockDiagonalBelief,
    DiagonalBelief,
    FullBelief,
    KalmanInfo,
    KalmanResult,
    LowRankBelief,
    VarianceEstimate,
    block_diagonal_belief,
    diagonal_belief,
    full_belief,
    kalman_predict,
    kalman_update,
    low_rank_belief,
    update_variance,
)
from .conventions import CONVENTIONS, Conventions
from .curvature import Curvature, Structure, curvature, fisher, kfac_factors, kronecker_solve, solve
from .directions import natural_direction, reng_direction, ring_direction
from .io import load, save
from .likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from .models import MLP, Activation, two_layer
from .optimizers import (
    Comparison,
    Optimizer,
    SolveInfo,
    StepInfo,
    adamw,
    compare,
    kfac,
    ngd,
    reng,
    ring,
    rkalman,
    sgd,
    sophia,
)
from .problem import Linearization, Problem
from .solvers import InverseResult, SolveResult, inverse_root

__all__ = [
    "CONVENTIONS",
    "MLP",
    "Activation",
    "BackendError",
    "Belief",
    "Bernoulli",
    "BlockDiagonalBelief",
    "Categorical",
    "Comparison",
    "Conventions",
    "Curvature",
    "DiagonalBelief",
    "FullBelief",
    "Gaussian",
    "InverseResult",
    "KalmanInfo",
    "KalmanResult",
    "Likelihood",
    "Linearization",
    "LowRankBelief",
    "NumericalError",
    "Optimizer",
    "Poisson",
    "Problem",
    "SolveInfo",
    "SolveResult",
    "StepInfo",
    "Structure",
    "VarianceEstimate",
    "__version__",
    "adamw",
    "asarray",
    "block_diagonal_belief",
    "compare",
    "curvature",
    "diagonal_belief",
    "fisher",
    "full_belief",
    "inverse_root",
    "kalman_predict",
    "kalman_update",
    "kfac",
    "kfac_factors",
    "kronecker_solve",
    "load",
    "low_rank_belief",
    "natural_direction",
    "ngd",
    "reng",
    "reng_direction",
    "ring",
    "ring_direction",
    "rkalman",
    "save",
    "sgd",
    "solve",
    "sophia",
    "to_numpy",
    "two_layer",
    "update_variance",
]
