"""The backend under test, as the arguments that every battery takes."""

from __future__ import annotations

from typing import Any

import pytest
from support import Backend

# JAX compiles every operation of a battery anew for float32: it looks at one object of each room there.
JAX_FLOAT32 = {
    "test_beliefs.py": "full",
    "test_likelihoods.py": "categorical",
    "test_optimizers.py": "rkalman explicit",
    "test_structures.py": "kfac",
}


@pytest.fixture
def place(backend: Backend, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where a battery's arrays live; read-only NumPy comes in through ``asarray``."""
    example = JAX_FLOAT32[request.path.name]
    if backend.library == "jax" and backend.dtype == "float32" and request.getfixturevalue("name") != example:
        pytest.skip(f"JAX in float32 checks {example}; the others would add minutes of compilation")
    return {
        "backend": backend.library,
        "dtype": backend.dtype,
        "device": backend.device,
        "asarray": backend.asarray,
    }
