"""What the tests share: backends, tolerances that follow from the arithmetic, and one comparator.

``from support import ...`` works in every test file (pytest's ``pythonpath`` holds this folder); the fixtures
``backend`` and ``dtype`` are in ``conftest.py``.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import array_api_compat as compat
import numpy as np
import pytest

import grng_ref as gr
from grng_ref.arrays import dtype_name, load_backend, map_arrays

REQUIRED = frozenset(filter(None, os.environ.get("GRNG_REQUIRE_BACKENDS", "").split(",")))
"""Modules that must be there: a missing one fails its tests instead of skipping them."""


def import_peer(module: str) -> ModuleType:
    """Import a peer's module (``"jax"``, ``"curvlinops"``); skip where it is not installed.

    Works inside a test and at the top of a test file. Where ``GRNG_REQUIRE_BACKENDS`` names the module, or
    the package that holds it, a missing one is an error: a machine that should have it cannot pass by
    skipping.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what another package says while it loads is not our defect
            loaded = importlib.import_module(module)
    except ModuleNotFoundError:
        loaded = None
    # A folder that happens to be called like the package imports as a namespace package, without a file.
    if loaded is None or getattr(loaded, "__file__", None) is None:
        if module in REQUIRED or module.partition(".")[0] in REQUIRED:
            raise ModuleNotFoundError(f"GRNG_REQUIRE_BACKENDS names {module}, but it is not installed")
        pytest.skip(
            f"{module} is not installed here (tests/peers/install.sh makes an environment that has it)",
            allow_module_level=True,
        )
    return loaded


def prepare_jax() -> None:
    """Configure JAX before its first array: float64 means float64, and what it compiles is kept on disk.

    Outside of `jit`, JAX compiles every operation anew for every shape and dtype, and most of a test's time
    goes there: the results are kept in the environment that JAX is installed in, for the next process. And
    tensorflow-probability 0.25, which kfac-jax and dynamax import, looks for a table of JAX under a name that
    JAX 0.9 no longer has; only nightly builds, which are deleted in time, know the new one.
    """
    # XLA's other emitter of CPU code compiles small operations in two thirds of the time
    flag = "--xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    jax = import_peer("jax")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_compilation_cache_dir", str(Path(sys.prefix, "jax-compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    core, xla = import_peer("jax.core"), import_peer("jax.interpreters.xla")
    xla.pytype_aval_mappings = core.pytype_aval_mappings


def require_gpu() -> None:
    """Skip unless CuPy is installed and finds a GPU; fail instead where GRNG_REQUIRE_BACKENDS names cupy."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy warns on import that it found no CUDA driver
            usable = bool(importlib.import_module("cupy").is_available())
    except ImportError:
        usable = False
    if not usable:
        if "cupy" in REQUIRED:
            pytest.fail("GRNG_REQUIRE_BACKENDS names cupy, but there is no usable GPU")
        pytest.skip("needs a real GPU")


@dataclass(frozen=True)
class Backend:
    """One way to hold arrays: a library, a device of it, a dtype, and whether arrays may be written to."""

    name: str
    library: str
    dtype: str
    device: str | None = None
    read_only: bool = False

    @property
    def xp(self) -> ModuleType:
        """The array-API namespace."""
        return load_backend(self.library)

    def asarray(self, tree: Any, *, dtype: str | None = None) -> Any:
        """A tree of host arrays in this backend: floating arrays get its dtype (or the one given)."""
        moved = gr.asarray(tree, backend=self.library, dtype=dtype or self.dtype, device=self.device)
        return map_arrays(_read_only_copy, moved) if self.read_only else moved

    def to_numpy(self, tree: Any) -> Any:
        """The tree's arrays on the host."""
        return gr.to_numpy(tree)

    def assert_close(self, actual: Any, expected: Any, **options: Any) -> None:
        """`assert_close` with namespace, device and dtype of this backend, the values of ``expected``."""
        host = np.asarray(gr.to_numpy(expected) if compat.is_array_api_obj(expected) else expected)
        # The values are compared in float64 on the host, so that rounding `expected` to float32 first
        # cannot hide or add an error; this array only carries namespace, device, dtype and shape.
        kind = self.dtype if np.issubdtype(host.dtype, np.floating) else str(host.dtype)
        example = self.asarray(np.empty(host.shape, dtype=kind))
        assert_same_kind(actual, example)
        assert_values_close(gr.to_numpy(actual), host, dtype=kind, **options)


def _read_only_copy(array: Any) -> Any:
    copy = np.array(array)  # a copy: the caller's own array stays writeable
    copy.flags.writeable = False
    return copy


def tolerance(dtype: Any, condition: float = 1.0, *, terms: int = 1, factor: float = 32.0) -> float:
    """Relative (normwise) error allowed to a backward stable computation.

    Formula: ``factor * sqrt(terms) * condition * eps(dtype)``.

    A backward stable algorithm returns the exact answer for data perturbed by a few ``eps``; the answer then
    moves by at most that times the condition number of the problem. Rounding errors of a sum over ``terms``
    products behave like a random walk and grow like ``sqrt(terms)`` (Higham & Mary 2019; the worst case,
    ``terms``, is not reached by chance). ``factor`` covers the constants that the rule leaves out: the number
    of operations done one after the other, and a difference of two computed results (32 is next to the 30
    that LAPACK's own tests allow their scaled residuals). A test that needs another factor says why.

    Raises
    ------
    ValueError
        The tolerance reaches 0.1: with not one digit left to compare, the test could hardly fail.
    """
    value = factor * math.sqrt(terms) * condition * float(np.finfo(_host_dtype(dtype)).eps)
    if not value < 0.1:
        raise ValueError(
            f"tolerance {value:.1e} leaves no digit to compare: {condition=:.1e} is too large for {dtype}"
        )
    return value


def assert_close(actual: Any, expected: Any, **options: Any) -> None:
    """Assert that two arrays agree: namespace, device, dtype and shape first, then the values.

    ``expected`` is an array of the same library; to compare with a host array, use `Backend.assert_close`.
    Options are those of `assert_values_close`.
    """
    assert_same_kind(actual, expected)
    kind = dtype_name(expected)
    assert_values_close(gr.to_numpy(actual), gr.to_numpy(expected), dtype=kind, **options)


def assert_same_kind(actual: Any, expected: Any) -> None:
    """Assert equal namespace, device, dtype and shape."""
    assert compat.is_array_api_obj(actual), f"expected an array, got {type(actual).__name__}"
    own, wanted = compat.array_namespace(actual), compat.array_namespace(expected)
    assert own is wanted, f"namespace {own.__name__}, expected {wanted.__name__}"
    # The standard has 0-d arrays where NumPy may return scalars; no scalar is taken for an array.
    assert isinstance(actual, np.generic) <= isinstance(expected, np.generic), (
        f"got the NumPy scalar {type(actual).__name__}, expected an array"
    )
    there, where = compat.device(actual), compat.device(expected)
    assert there == where, f"device {there}, expected {where}"
    assert actual.dtype == expected.dtype, f"dtype {actual.dtype}, expected {expected.dtype}"
    assert tuple(actual.shape) == tuple(expected.shape), (
        f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    )


def assert_values_close(
    actual: Any,
    expected: Any,
    *,
    dtype: Any,
    rtol: float | None = None,
    atol: float = 0.0,
    elementwise: bool = False,
) -> None:
    """Assert ``max |actual - expected| <= atol + rtol max |expected|`` on host arrays.

    ``rtol=None`` stands for ``tolerance(dtype)``. ``elementwise=True`` asks for the bound entry by entry,
    ``|actual_i - expected_i| <= atol + rtol |expected_i|``: every entry then has its own digits. NaN and
    infinities must sit at the same places with the same sign. Integers and booleans must be equal.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    if not np.issubdtype(expected.dtype, np.floating):
        assert np.array_equal(actual, expected), f"got {actual}, expected {expected}"
        return
    rtol = tolerance(dtype) if rtol is None else rtol
    got, want = actual.astype(np.float64), expected.astype(np.float64)
    special = ~(np.isfinite(got) & np.isfinite(want))
    assert np.array_equal(got[special], want[special], equal_nan=True), (
        f"NaN or infinite entries differ: got {got[special]}, expected {want[special]}"
    )
    got, want = got[~special], want[~special]
    if got.size == 0:
        return
    scale = np.abs(want) if elementwise else np.max(np.abs(want))
    excess = np.abs(got - want) - (atol + rtol * scale)
    worst = int(np.argmax(excess))
    assert excess[worst] <= 0.0, (
        f"{int(np.sum(excess > 0))} of {got.size} entries differ by more than atol={atol:.1e} + "
        f"rtol={rtol:.1e} * |expected|; the worst: got {got[worst]!r}, expected {want[worst]!r}, "
        f"error {abs(got[worst] - want[worst]):.3e}"
    )


def _host_dtype(dtype: Any) -> np.dtype:
    """NumPy's dtype for a name, or for any backend's floating dtype (``torch.float32``)."""
    return np.dtype(dtype if isinstance(dtype, str | type | np.dtype) else str(dtype).rpartition(".")[2])
