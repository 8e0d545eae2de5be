"""The settings of a run, as every claim receives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import grng_ref as gr

DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Run:
    """Backend, precision and size of a run: the first argument of every claim.

    Parameters
    ----------
    backend : {"numpy", "cupy", "torch", "jax", "array_api_strict"}
    dtype : {"float64", "float32"}
    device : str, optional
        The backend's name for a device; None is its default.
    full : bool
        Ask for the full number of trials where a claim samples.
    seed : int
        Offset of all random draws, at least 0. Fixed sample sizes and fixed seeds: another seed repeats
        the whole suite on other draws.

    Raises
    ------
    ValueError
        Unknown dtype, or a negative seed.
    """

    backend: str = "numpy"
    dtype: str = "float64"
    device: str | None = None
    full: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {self.dtype!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed must be an integer of at least 0, got {self.seed!r}")

    @property
    def eps(self) -> float:
        """Unit of least precision of the dtype: 2^-52 in float64, 2^-23 in float32."""
        return float(np.finfo(self.dtype).eps)

    def asarray(self, tree: Any) -> Any:
        """The arrays of a tree in this run's backend, dtype (floating arrays only) and device."""
        return gr.asarray(tree, backend=self.backend, dtype=self.dtype, device=self.device)

    def rng(self, *key: int) -> np.random.Generator:
        """A host generator for this run's seed and a claim's own key: the same draws on every backend."""
        return np.random.default_rng([self.seed, *key])

    def check_available(self) -> None:
        """Raise unless arrays of this backend, dtype and device can be made here.

        Raises
        ------
        ValueError
            Unknown backend.
        grng_ref.BackendError
            Not installed, no such device, or no such precision.
        """
        self.asarray(np.zeros(1))
