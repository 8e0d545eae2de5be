"""What the batteries share: where arrays live, comparisons with derived bounds, the run over properties."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import array_api_compat as compat
import numpy as np

from ..arrays import (
    Array,
    BackendError,
    asarray,
    backend_name,
    check_choice,
    dtype_name,
    host_generator,
    to_numpy,
)
from ..solvers import ACCEPTED_RESIDUAL

Host = np.ndarray

_ROUNDINGS = 32.0
"""Operations one after the other, and a difference of two computed results; next to LAPACK's 30."""


@dataclass(frozen=True)
class Place:
    """Where a battery's arrays live: library, dtype, device, and how host arrays get there."""

    backend: str
    dtype: str
    device: Any
    hook: Callable[[Any], Any] | None

    def put(self, tree: Any) -> Any:
        """Host arrays at this place; integer arrays keep their dtype."""
        if self.hook is not None:
            return self.hook(tree)
        return asarray(tree, backend=self.backend, dtype=self.dtype, device=self.device)

    def wrong_dtypes(self, values: Host) -> list[Array]:
        """The values in dtypes that do not belong with this place's: integers, and the other float."""
        found = [asarray(values.astype(np.int32), backend=self.backend, device=self.device)]
        other = "float32" if self.dtype == "float64" else "float64"
        with contextlib.suppress(BackendError):  # JAX without float64 has no other dtype to mix in
            found.append(asarray(values.astype(other), backend=self.backend, device=self.device))
        return found

    @property
    def eps(self) -> float:
        """Unit of least precision of the dtype."""
        return float(np.finfo(self.dtype).eps)

    def rounding(self, scale: float, *, terms: int = 1, condition: float = 1.0) -> float:
        """A bound of the rounding error of sums over ``terms`` products of the given size.

        ``32 sqrt(terms) condition eps scale``: errors of a sum behave like a random walk.
        """
        return _ROUNDINGS * math.sqrt(terms) * condition * self.eps * scale


def make_place(
    backend: str, dtype: str, device: Any, hook: Callable[[Any], Any] | None, rng: Any
) -> tuple[Place, np.random.Generator]:
    """The checked common arguments of a battery."""
    check_choice("dtype", dtype, ("float64", "float32"))
    return Place(backend, dtype, device, hook), host_generator(rng)


# --- the run ---------------------------------------------------------------------------------------------


def run_properties(title: str, properties: Sequence[Callable[[Any], None]], case: Any) -> None:
    """Run every property on the case; one AssertionError names all that are violated."""
    violated: list[str] = []
    first: Exception | None = None
    for check in properties:
        try:
            check(case)
        except Exception as error:  # noqa: BLE001  what a foreign object raises is a finding, whatever it is
            said = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            violated.append(f"  {check.__name__}: {said}")
            first = first or error
    if violated:
        count = f"{len(violated)} of {len(properties)} properties violated"
        raise AssertionError("\n".join([f"{title}: {count}", *violated])) from first


def fail(message: str) -> NoReturn:
    """Report a violation."""
    raise AssertionError(message)


def require(condition: bool, message: str) -> None:
    """Report a violation unless the condition holds; unlike `assert`, not switched off by ``python -O``."""
    if not condition:
        fail(message)


# --- comparisons -----------------------------------------------------------------------------------------


def host(tree: Any) -> Any:
    """Arrays on the host; floats as float64, so that a comparison adds no rounding of its own."""
    values = to_numpy(tree)
    if isinstance(values, np.ndarray | np.generic):
        values = np.asarray(values)
        return values.astype(np.float64) if np.issubdtype(values.dtype, np.floating) else values
    return values


def require_kind(name: str, value: Any, template: Array, shape: Sequence[int | None]) -> None:
    """Report a violation unless the value has the template's library, device and dtype, and the shape."""
    require_place(name, value, template)
    require(value.dtype == template.dtype, f"{name} has dtype {value.dtype}, expected {template.dtype}")
    have = tuple(value.shape)
    fits = len(have) == len(shape) and all(w is None or w == h for w, h in zip(shape, have, strict=True))
    require(fits, f"{name} has shape {have}, expected {tuple(shape)}")


def require_place(name: str, value: Any, template: Array) -> None:
    """Report a violation unless the value is an array of the template's library, on its device."""
    require(compat.is_array_api_obj(value), f"{name} is {type(value).__name__}, expected an array")
    own, wanted = compat.array_namespace(value), compat.array_namespace(template)
    require(own is wanted, f"{name} belongs to {backend_name(own)}, its arguments to {backend_name(wanted)}")
    here, there = compat.device(value), compat.device(template)
    require(here == there, f"{name} is on device {here}, its arguments on {there}")


def require_close(name: str, actual: Any, expected: Any, bound: Any) -> None:
    """Report a violation unless ``|actual - expected| <= bound`` in every entry (NaN is never close)."""
    got, want, limit = np.broadcast_arrays(
        *(np.asarray(v, dtype=np.float64) for v in (actual, expected, bound))
    )
    wrong = ~(np.abs(got - want) <= limit)
    if not np.any(wrong):
        return
    excess = np.where(wrong, np.abs(got - want) / np.maximum(limit, np.finfo(float).tiny), 0.0)
    worst = np.unravel_index(int(np.argmax(np.where(np.isnan(excess), np.inf, excess))), excess.shape)
    fail(
        f"{name} differs in {int(np.sum(wrong))} of {wrong.size} entries; the worst: got {got[worst]:.9g}, "
        f"expected {want[worst]:.9g}, difference {abs(got[worst] - want[worst]):.3g}, "
        f"allowed {limit[worst]:.3g}"
    )


def require_raises(
    what: str,
    kinds: type[Exception] | tuple[type[Exception], ...],
    call: Callable[..., Any],
    *arguments: Any,
    mention: Iterable[str] = (),
    **options: Any,
) -> None:
    """Report a violation unless the call raises one of the kinds, with a message that has the words."""
    names = " or ".join(k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,)))
    try:
        call(*arguments, **options)
    except kinds as error:
        absent = [word for word in mention if not re.search(rf"\b{re.escape(word)}\b", str(error))]
        require(not absent, f"the {names} for {what} must mention {absent}, it says: {error}")
        return
    except Exception as error:
        raise AssertionError(f"{what} must raise {names}, got {type(error).__name__}: {error}") from error
    fail(f"{what} must raise {names}, but nothing was raised")


def require_unchanged(name: str, before: Any, tree: Any) -> None:
    """Report a violation unless the tree still has the fingerprint ``before``."""
    require(fingerprint(tree) == before, f"{name} was modified")


def require_identical(name: str, first: Any, second: Any) -> None:
    """Report a violation unless two trees agree in every bit."""
    if fingerprint(first) == fingerprint(second):
        return
    numbers = ""
    if compat.is_array_api_obj(first) and compat.is_array_api_obj(second) and first.shape == second.shape:
        numbers = f"; the largest difference is {np.max(np.abs(host(first) - host(second))):.3g}"
    fail(f"{name} must be identical in every bit{numbers}")


def fingerprint(tree: Any) -> Any:
    """The contents of a tree as values that compare by ``==``: arrays by their bytes."""
    if compat.is_array_api_obj(tree):
        values = np.asarray(to_numpy(tree))
        return dtype_name(tree), tuple(tree.shape), values.tobytes()
    if isinstance(tree, tuple | list):
        return type(tree).__name__, tuple(fingerprint(item) for item in tree)
    if isinstance(tree, dict):
        return "dict", tuple((key, fingerprint(value)) for key, value in tree.items())
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = tuple((f.name, fingerprint(getattr(tree, f.name))) for f in dataclasses.fields(tree))
        return type(tree).__name__, fields
    if isinstance(tree, float):
        return float.hex(tree)  # NaN equals itself, 0.0 differs from -0.0
    if hasattr(tree, "__dict__") and not callable(tree):
        return type(tree).__name__, fingerprint(vars(tree))
    return tree


def norm(values: Host) -> float:
    """The Euclidean (Frobenius) norm."""
    return float(np.linalg.norm(values))


def scaled_residual(matrix: Host, x: Host, v: Host, eps: float) -> float:
    """LAPACK's measure of a solve: ``|v - M x| / (|M|_F |x| n eps)``; 30 is what its tests accept."""
    bottom = norm(matrix) * norm(x) * x.shape[0] * eps
    top = norm(v - matrix @ x)
    return top / bottom if bottom > 0.0 else (0.0 if top == 0.0 else math.inf)


def require_solves(name: str, matrix: Host, x: Any, v: Host, place: Place) -> None:
    """Report a violation unless x solves ``M x = v`` with a scaled residual of at most 30."""
    residual = scaled_residual(matrix, host(x), v, place.eps)
    require(residual <= ACCEPTED_RESIDUAL, f"{name} has scaled residual {residual:.3g}, allowed 30")
