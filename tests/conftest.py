"""The fixtures ``dtype`` and ``backend``: one parametrization for everything that takes arrays."""

from __future__ import annotations

import importlib.metadata

import pytest
import scipy.linalg  # noqa: F401  (its BLAS must be loaded before its threads can be limited)
import threadpoolctl
from hypothesis import settings
from support import Backend, import_peer, prepare_jax, require_gpu

# Time per example is no property of the code on a shared machine, and the examples are the same every run.
settings.register_profile("grng", deadline=None, derandomize=True)
settings.load_profile("grng")

# name -> (library, device, read-only)
BACKENDS = {
    "numpy": ("numpy", None, False),
    "numpy_readonly": ("numpy", None, True),
    "array_api_strict:device1": ("array_api_strict", "device1", False),  # stands in for a GPU
    "torch": ("torch", None, False),
    "jax": ("jax", None, False),
    "cupy": ("cupy", None, False),
}
# JAX compiles every operation anew for each shape and dtype. In float32 it is enough that the batteries pass; those of
# the beliefs, whose panels and windows have many shapes, are enough in float64 too.
JAX_FLOAT32 = {"contracts"}
JAX_IN_BATTERIES_ONLY = {"beliefs"}
MARKS = {"torch": pytest.mark.peers, "jax": pytest.mark.peers, "cupy": pytest.mark.gpu}


def pytest_configure() -> None:
    """One BLAS thread, and JAX prepared before its first array.

    The matrices of these tests are small: threads that wait for each other (NumPy and SciPy each bring a
    pool of their own) make them several times slower on a busy machine.
    """
    threadpoolctl.threadpool_limits(1)
    try:
        importlib.metadata.version("jax")
    except importlib.metadata.PackageNotFoundError:
        return
    prepare_jax()


@pytest.fixture(params=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> str:
    """Name of the floating dtype under test."""
    return request.param


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in BACKENDS])
def backend(request: pytest.FixtureRequest, dtype: str) -> Backend:
    """The backend under test; its ``asarray`` gives arrays of the dtype under test."""
    library, device, read_only = BACKENDS[request.param]
    if read_only and dtype == "float32":
        pytest.skip("what is written to does not depend on the dtype: read-only arrays are float64")
    if library in ("torch", "jax"):
        import_peer(library)
        room = request.path.parent.name
        if library == "jax" and (
            room in JAX_IN_BATTERIES_ONLY or (dtype == "float32" and room not in JAX_FLOAT32)
        ):
            pytest.skip(f"JAX in {dtype} meets this room in the batteries of tests/contracts")
    elif library == "cupy":
        require_gpu()
    return Backend(name=request.param, library=library, dtype=dtype, device=device, read_only=read_only)
