"""Which array library an array belongs to, and whether several arrays belong together."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import array_api_compat as compat
import numpy as np

Array = Any
"""Any array of a supported backend; the array API standard has no common static type."""

# NumPy is there from the start: an array of JAX's dtype float0 has NumPy's type and claims JAX's namespace.
_NAMESPACES: dict[type, ModuleType] = {np.ndarray: compat.array_namespace(np.empty(0))}
_SUPPORTED: set[type] = {np.ndarray}


def array_namespace(array: Array) -> ModuleType:
    """The namespace of one array, asked once a type: asking costs as much as a small matrix product."""
    kind = type(array)
    if kind not in _NAMESPACES:
        _NAMESPACES[kind] = compat.array_namespace(array)
    return _NAMESPACES[kind]


def namespace(**named: Array) -> ModuleType:
    """The one array namespace of the named arguments, which must be floating, of one dtype and device.

    ``None`` values are skipped. The names appear in the messages.

    Raises
    ------
    TypeError
        An argument is not an array, not float32 or float64, requires grad (PyTorch), or belongs to
        another namespace or dtype than the first one.
    ValueError
        An argument lies on another device than the first one.
    """
    xp = _one_namespace(named)
    first_name = first = None
    for name, value in named.items():
        if value is None:
            continue
        check_floating(name, value, xp)
        if first is None:
            first_name, first = name, value
        elif value.dtype != first.dtype:
            raise TypeError(
                f"{name} has dtype {value.dtype} but {first_name} has {first.dtype}; nothing is promoted "
                "silently, cast one of them (gr.asarray(..., dtype=...))"
            )
    return xp


def namespace_of_mixed(**named: Array) -> ModuleType:
    """Like `namespace`, for arrays of different dtypes (labels beside outputs)."""
    return _one_namespace(named)


def _one_namespace(named: dict[str, Array]) -> ModuleType:
    first_name: str | None = None
    xp: ModuleType | None = None
    where: Any = None
    for name, value in named.items():
        if value is None:
            continue
        if not _is_supported(value):
            raise TypeError(
                f"{name} must be an array (NumPy, CuPy, PyTorch, JAX or array-api-strict), got "
                f"{type(value).__name__}; make one with numpy.asarray or gr.asarray(..., backend=...)"
            )
        if getattr(value, "requires_grad", False):
            raise TypeError(f"{name} is a PyTorch tensor that requires grad; pass {name}.detach()")
        own, own_device = array_namespace(value), compat.device(value)
        if xp is None:
            first_name, xp, where = name, own, own_device
        elif own is not xp:
            raise TypeError(
                f"{name} belongs to {backend_name(own)} but {first_name} to {backend_name(xp)}; "
                "move one of them with gr.asarray(..., backend=...)"
            )
        elif own_device != where:
            raise ValueError(
                f"{name} is on device {own_device} but {first_name} on {where}; "
                "move one of them with gr.asarray(..., backend=..., device=...)"
            )
    if xp is None:
        raise TypeError("expected at least one array, got none")
    return xp


def _is_supported(value: Any) -> bool:
    kind = type(value)
    if kind in _SUPPORTED:
        return True
    # `*` is another product for numpy.matrix, and nothing here would respect a mask.
    if not compat.is_array_api_obj(value) or isinstance(value, np.matrix | np.ma.MaskedArray):
        return False
    xp = array_namespace(value)
    if not (is_numpy(xp) or backend_name(xp) != "numpy"):
        return False
    _SUPPORTED.add(kind)
    return True


def backend_name(xp: ModuleType) -> str:
    """Short name of a namespace: numpy, cupy, torch, jax or array_api_strict."""
    for word in ("array_api_strict", "cupy", "torch", "jax"):
        if word in xp.__name__:
            return word
    return "numpy"


def is_numpy(xp: ModuleType) -> bool:
    """Whether the namespace is NumPy's, so that SciPy's LAPACK applies without a copy."""
    return bool(compat.is_numpy_namespace(xp))


def device_of(array: Array) -> Any:
    """The device an array lies on."""
    return compat.device(array)


def like(array: Array) -> dict[str, Any]:
    """Keyword arguments that make a new array of the same dtype on the same device."""
    return {"dtype": array.dtype, "device": compat.device(array)}


def epsilon(array: Array) -> float:
    """Unit of least precision of an array's dtype: 2^-52 in float64, 2^-23 in float32."""
    return float(array_namespace(array).finfo(array.dtype).eps)


# --- checks of single arguments ------------------------------------------------------------------------


def check_floating(name: str, value: Array, xp: ModuleType) -> None:
    """Raise a TypeError unless the array is float32 or float64."""
    if value.dtype not in (xp.float32, xp.float64):
        raise TypeError(
            f"{name} must be a float32 or float64 array, got dtype {value.dtype}; "
            "cast it with gr.asarray(..., dtype=...) or the array's own astype"
        )


def check_shape(name: str, value: Array, expected: tuple[int | None, ...], meaning: str) -> None:
    """Raise a ValueError unless the shape fits; ``None`` stands for any length of at least one."""
    shape = tuple(value.shape)
    fits = len(shape) == len(expected) and all(
        (want is None and have > 0) or want == have for want, have in zip(expected, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if want is None else str(want) for want in expected)
        comma = "," if len(expected) == 1 else ""
        raise ValueError(f"{name} must have shape ({wanted}{comma}) = {meaning}, got {shape}")


def check_finite(**named: Array) -> None:
    """Raise a ValueError that names the first argument with a NaN or an infinity.

    Costs one scalar synchronisation while all is well.
    """
    arrays = {name: value for name, value in named.items() if value is not None}
    xp = namespace_of_mixed(**arrays)
    floats = {name: value for name, value in arrays.items() if xp.isdtype(value.dtype, "real floating")}
    flags = [xp.all(xp.isfinite(value)) for value in floats.values()]
    if flags and not bool(xp.all(xp.stack(flags))):
        bad = next(name for name, flag in zip(floats, flags, strict=True) if not bool(flag))
        raise ValueError(f"{bad} must be finite, got NaN or infinite entries")


def check_real(name: str, value: Any, *, minimum: float = -math.inf, exclusive: bool = False) -> float:
    """The value as a finite Python float in the stated range, or an error that names the argument."""
    if isinstance(value, bool) or not (isinstance(value, numbers.Real) or _is_real_scalar(value)):
        raise TypeError(f"{name} must be a real number, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:  # an integer or a fraction beyond float64
        number = math.inf if value > 0 else -math.inf
    if not math.isfinite(number) or number < minimum or (exclusive and number == minimum):
        sign = ">" if exclusive else ">="
        bound = "" if minimum == -math.inf else f" {sign} {minimum:g}"
        raise ValueError(f"{name} must be a finite number{bound}, got {number}")
    return number


def check_representable(name: str, value: float, template: Array) -> float:
    """The positive value if the template's dtype holds it as a normal number, or a ValueError."""
    limits = array_namespace(template).finfo(template.dtype)
    if not float(limits.smallest_normal) <= value <= float(limits.max):
        raise ValueError(f"{name} leaves the range of {template.dtype}: it needs the number {value:g} there")
    return value


def _is_real_scalar(value: Any) -> bool:
    if not compat.is_array_api_obj(value) or tuple(value.shape) != ():
        return False
    return bool(array_namespace(value).isdtype(value.dtype, ("real floating", "integral")))


def check_integer(name: str, value: Any, *, minimum: int) -> int:
    """The value as a Python int of at least ``minimum``, or an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}, got {value}")
    return int(value)


def check_choice(name: str, value: Any, options: Iterable[str]) -> str:
    """The value if it is one of the option names, or a ValueError that lists them."""
    options = tuple(options)
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {value!r}")
    return value
