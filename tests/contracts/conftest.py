"""The backend under test, as the arguments that every battery takes."""

from __future__ import annotations

from typing import Any

import pytest
from support import Backend


@pytest.fixture
def place(backend: Backend) -> dict[str, Any]:
    """Where a battery's arrays live; read-only NumPy comes in through ``asarray``."""
    return {
        "backend": backend.library,
        "dtype": backend.dtype,
        "device": backend.device,
        "asarray": backend.asarray,
    }
