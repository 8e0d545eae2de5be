"""One BLAS thread while claims run."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit every BLAS of this process to one thread, and give the threads back at the end.

    The matrices of the claims are small, and NumPy and SciPy each bring a pool of threads that spins while it
    waits: on a machine with other work the pools take turns in waiting for each other, and a run of ten
    seconds has taken two minutes. Without threadpoolctl (extra "verify") nothing is limited, and the stamp of
    the run says that the threads are unknown.
    """
    if importlib.util.find_spec("threadpoolctl") is None:
        yield
        return
    importlib.import_module("scipy.linalg")  # only a pool that is loaded can be limited
    with importlib.import_module("threadpoolctl").threadpool_limits(1, user_api="blas"):
        yield
