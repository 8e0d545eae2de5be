"""A bound with what it is a bound of: enough to prove it again, from a file too."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from grng_ref.arrays import check_choice, to_numpy

from .bound import Bound
from .check import Check, check_witness
from .serialise import (
    array_from_json,
    array_to_json,
    fields_of,
    number_from_json,
    number_to_json,
    problem_from_json,
    problem_to_json,
)

_NETWORK = ("problem", "theta", "x")
ARGUMENTS = {
    "eigenvalue_min": ("matrix",),
    "eigenvalue_max": ("matrix",),
    "positive_definite": ("matrix",),
    "gram_min": _NETWORK,
    "gram_max": _NETWORK,
    "residual_norm": (*_NETWORK, "y"),
    "newton_schulz_residual": ("matrix", "inverse"),
    "jacobian_lipschitz": ("problem", "x"),
    "jacobian_change": (*_NETWORK, "radius"),
    "slope_lipschitz": ("activation",),
}


@dataclass(frozen=True, eq=False)
class Proof:
    """A bound of one quantity at given arguments, which `check` proves again.

    Parameters
    ----------
    quantity : str
        The name of a function of `proofs_check.bounds`.
    bound : Bound
        What it returned.
    arguments : tuple
        What it was given, in its order; arrays on the host.
    """

    quantity: str
    bound: Bound
    arguments: tuple[Any, ...]

    def check(self) -> Check:
        """Prove both sides again with `check_witness`."""
        return check_witness(self.bound, self.quantity, *self.arguments)

    def to_json(self) -> dict[str, Any]:
        """The proof as JSON values, exactly.

        Raises
        ------
        TypeError
            A problem made of a user's own objects: no name rebuilds them.
        """
        pairs = zip(ARGUMENTS[self.quantity], self.arguments, strict=True)
        return {
            "kind": "bound",
            "quantity": self.quantity,
            "bound": self.bound.to_json(),
            "arguments": {name: _writer(name)(value) for name, value in pairs},
        }

    @classmethod
    def from_json(cls, value: Any) -> Proof:
        """The proof that `to_json` stored.

        Raises
        ------
        ValueError
            Something else is stored.
        """
        fields = fields_of(value, "a bound's proof", ("kind", "quantity", "bound", "arguments"))
        names = ARGUMENTS[check_choice("quantity", fields["quantity"], ARGUMENTS)]
        given = fields_of(fields["arguments"], f"the arguments of {fields['quantity']}", names)
        arguments = tuple(_reader(name)(given[name]) for name in names)
        return cls(fields["quantity"], Bound.from_json(fields["bound"]), arguments)


_WRITE: dict[str, Callable[[Any], Any]] = {
    "problem": problem_to_json,
    "radius": number_to_json,
    "activation": str,
}
_READ: dict[str, Callable[[Any], Any]] = {
    "problem": problem_from_json,
    "radius": number_from_json,
    "activation": str,
}


def _writer(name: str) -> Callable[[Any], Any]:
    return _WRITE.get(name, array_to_json)


def _reader(name: str) -> Callable[[Any], Any]:
    return _READ.get(name, array_from_json)


def prove(quantity: str, *arguments: Any) -> Proof:
    """Bound a quantity, and keep what it was bounded for: a claim's finding can carry that into its record.

    Parameters
    ----------
    quantity : str
        The name of a function of `proofs_check.bounds`, such as "gram_min".
    *arguments
        That function's arguments, in its order.

    Returns
    -------
    Proof
        With the `Bound` as ``bound``.

    Raises
    ------
    TypeError, ValueError, BackendError, NumericalError
        As the function; an unknown quantity, a wrong number of arguments.

    Notes
    -----
    Source: none, a call.
    """
    names = ARGUMENTS[check_choice("quantity", quantity, ARGUMENTS)]
    if len(arguments) != len(names):
        raise TypeError(f"arguments of {quantity} must be {', '.join(names)}; got {len(arguments)} of them")
    bound = getattr(importlib.import_module("proofs_check.bounds"), quantity)(*arguments)
    return Proof(quantity, bound, tuple(to_numpy(arguments)))
