"""The contract batteries: what every likelihood, structure, optimizer and belief must satisfy.

They are this package's own tests of its own objects, and take a user's objects through the same door::

    from grng_ref.testing import check_curvature
    check_curvature(MyStructure(), backend="torch", dtype="float32")

A battery runs all its properties and raises one AssertionError that names every property violated, with the
numbers. It needs no test framework.
"""

from .beliefs import check_belief
from .curvatures import check_curvature
from .likelihoods import check_likelihood
from .optimizers import check_optimizer

__all__ = ["check_belief", "check_curvature", "check_likelihood", "check_optimizer"]
