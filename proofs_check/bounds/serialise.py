"""Numbers, arrays and problems as JSON values, and back, with every bit.

A float is its shortest decimal, which Python reads back exactly, or "inf", "-inf", "nan". The entries of an
array are the bytes of little-endian numbers of 64 bits, in base64.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

import grng_ref as gr

_LITTLE_ENDIAN = {"float64": "<f8", "int64": "<i8"}
_LIKELIHOODS = {
    "gaussian": gr.Gaussian,
    "categorical": gr.Categorical,
    "bernoulli": gr.Bernoulli,
    "poisson": gr.Poisson,
}
_LONG = 16  # a list of so many numbers is stored as an array


def number_to_json(value: float) -> float | str:
    """The number, or the text of one that JSON lacks."""
    return float(value) if math.isfinite(value) else str(float(value))


def number_from_json(value: Any) -> float:
    """The number.

    Raises
    ------
    ValueError
        Neither a number nor one of the three texts.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"a number was expected, got {value!r}")
    if isinstance(value, str) and value not in ("inf", "-inf", "nan"):
        raise ValueError(f"a number was expected, got {value!r}")
    return float(value)


def array_to_json(value: Any) -> dict[str, Any]:
    """An array of any backend as its shape and its bytes; floats in float64, which holds others exactly."""
    array = np.asarray(gr.to_numpy(value))
    if array.dtype.kind not in "iuf" or (array.dtype.kind == "u" and array.dtype.itemsize > 4):
        raise TypeError(f"an array of floats or integers was expected, got dtype {array.dtype}")
    if array.dtype.itemsize > 8:
        raise TypeError(f"float64 cannot hold dtype {array.dtype}")
    dtype = "float64" if array.dtype.kind == "f" else "int64"
    data = np.ascontiguousarray(array, dtype=_LITTLE_ENDIAN[dtype]).tobytes()
    return {"dtype": dtype, "shape": list(array.shape), "base64": base64.b64encode(data).decode("ascii")}


def array_from_json(value: Any) -> np.ndarray:
    """The array.

    Raises
    ------
    ValueError
        Bytes that do not fit the shape, or no array at all.
    """
    fields = fields_of(value, "an array", ("dtype", "shape", "base64"))
    if fields["dtype"] not in _LITTLE_ENDIAN:
        raise ValueError(f"dtype of an array must be float64 or int64, got {fields['dtype']!r}")
    try:
        data = base64.b64decode(fields["base64"], validate=True)
        shape = tuple(_integer(size) for size in fields["shape"])
    except (TypeError, binascii.Error) as error:
        raise ValueError(f"an array cannot be read: {error}") from None
    if min(shape, default=0) < 0 or 8 * math.prod(shape) != len(data):
        raise ValueError(f"an array of shape {shape} has not {len(data)} bytes")
    flat = np.frombuffer(data, dtype=_LITTLE_ENDIAN[fields["dtype"]])
    return flat.astype(fields["dtype"]).reshape(shape)


def witness_to_json(witness: Mapping[str, Any]) -> dict[str, Any]:
    """A witness with its long lists of numbers as arrays."""
    return {name: _list_to_json(value) for name, value in witness.items()}


def witness_from_json(value: Any) -> dict[str, Any]:
    """The witness, with lists."""
    if not isinstance(value, Mapping):
        raise ValueError(f"a witness must be a mapping, got {type(value).__name__}")
    return {
        name: array_from_json(item).tolist() if isinstance(item, Mapping) and "base64" in item else item
        for name, item in value.items()
    }


def _list_to_json(value: Any) -> Any:
    """A list, nested or not, of numbers of one kind: as an array where it is long."""
    if not isinstance(value, list) or not value:
        return value
    kinds = {type(item) for item in _leaves(value)}
    if kinds not in ({float}, {int}):
        return value
    try:
        array = np.array(value, dtype=np.float64 if kinds == {float} else np.int64)
    except (ValueError, OverflowError):  # ragged, or integers beyond 64 bits
        return value
    return array_to_json(array) if array.size >= _LONG else value


def _leaves(value: Any) -> Any:
    if not isinstance(value, list):
        yield value
        return
    for item in value:
        yield from _leaves(item)


# --- problems ---------------------------------------------------------------------------------------------


def problem_to_json(problem: Any) -> dict[str, Any]:
    """A problem whose parts are the package's own, with the frozen layers' numbers.

    Raises
    ------
    TypeError
        An activation, a model or a likelihood that is an object of the user's: no name rebuilds it.
    """
    if type(problem) is not gr.Problem or type(problem.model) is not gr.MLP:
        raise TypeError(f"only a gr.Problem with a gr.MLP can be stored, got {type(problem).__name__}")
    model, likelihood = problem.model, problem.likelihood
    if not isinstance(model.activation, str):
        raise TypeError(f"only an activation with a name can be stored, got {model.activation!r}")
    names = [name for name, kind in _LIKELIHOODS.items() if type(likelihood) is kind]
    if not names:
        raise TypeError(f"only the package's likelihoods can be stored, got {type(likelihood).__name__}")
    stored: dict[str, Any] = {
        "sizes": list(model.sizes),
        "activation": model.activation,
        "bias": model.bias,
        "parameterization": model.parameterization,
        "scales": None if model.scales is None else list(model.scales),
        "frozen": {str(index): array_to_json(value) for index, value in (model.frozen or {}).items()},
        "likelihood": names[0],
    }
    return {**stored, "variance": likelihood.variance} if isinstance(likelihood, gr.Gaussian) else stored


def problem_from_json(value: Any) -> gr.Problem:
    """The problem, in NumPy.

    Raises
    ------
    ValueError
        What is stored is no problem.
    """
    names = ("sizes", "activation", "bias", "parameterization", "scales", "frozen", "likelihood")
    gaussian = isinstance(value, Mapping) and value.get("likelihood") == "gaussian"
    fields = fields_of(value, "a problem", (*names, *(["variance"] * gaussian)))
    kind = _LIKELIHOODS.get(fields["likelihood"])
    if kind is None:
        raise ValueError(f"likelihood must be one of {', '.join(_LIKELIHOODS)}; got {fields['likelihood']!r}")
    options = {name: fields[name] for name in names[:5]}
    try:
        frozen = {int(index): array_from_json(item) for index, item in fields["frozen"].items()}
        likelihood = kind(**({"variance": fields["variance"]} if "variance" in fields else {}))
        return gr.Problem(gr.MLP(**options, frozen=frozen), likelihood)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"a problem cannot be read: {error}") from None


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"an integer was expected, got {value!r}")
    return value


def fields_of(value: Any, what: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    """A mapping with these names and no others."""
    if not isinstance(value, Mapping) or set(value) != set(names):
        got = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise ValueError(f"{what} must have {', '.join(names)}; got {got}")
    return value
