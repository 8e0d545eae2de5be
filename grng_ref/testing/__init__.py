"""The contract batteries: what every likelihood, structure, optimizer and belief must satisfy.

They are this package's own tests of its own objects, and take a user's objects through the same door::

    from grng_ref.testing import check_curvature
    check_curvature(MyStructure(), backend="torch", dtype="float32")

A battery runs all its properties and raises one AssertionError that names every property violated, with the
numbers. It needs no test framework.

`check` is for implementations that are not objects of these protocols, in any library: it compares them with
test vectors, stage by stage, and looks for the cause of a mismatch.
"""

from .beliefs import check_belief
from .conformance import Report, check, parametrize_with_vectors
from .curvatures import check_curvature
from .likelihoods import check_likelihood
from .optimizers import check_optimizer

__all__ = [
    "Report",
    "check",
    "check_belief",
    "check_curvature",
    "check_likelihood",
    "check_optimizer",
    "parametrize_with_vectors",
]
