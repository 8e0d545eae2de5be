"""The backend under test, as the arguments that every battery takes."""

from __future__ import annotations

from typing import Any

import pytest
from support import Backend

# Every object passes in float64 on every backend, and in float32 on NumPy and PyTorch. The backends that are
# slow (JAX compiles every operation anew) look at one object of each room in float32.
SLOW_LIBRARIES = ("array_api_strict", "jax")
FLOAT32_EXAMPLES = {
    "test_beliefs.py": "full",
    "test_likelihoods.py": "categorical",
    "test_optimizers.py": "rkalman explicit",
    "test_structures.py": "kfac",
}


@pytest.fixture
def place(backend: Backend, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where a battery's arrays live; read-only NumPy comes in through ``asarray``."""
    example = FLOAT32_EXAMPLES[request.path.name]
    slow = backend.library in SLOW_LIBRARIES and backend.dtype == "float32"
    if slow and request.getfixturevalue("name") != example:
        pytest.skip(f"in float32 {backend.library} checks {example} only: the others would take minutes")
    return {
        "backend": backend.library,
        "dtype": backend.dtype,
        "device": backend.device,
        "asarray": backend.asarray,
    }
