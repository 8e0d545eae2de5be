"""A number known from two sides."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .serialise import fields_of, number_from_json, number_to_json, witness_from_json, witness_to_json


@dataclass(frozen=True)
class Bound:
    """``lower <= q <= upper`` for a quantity q, and what shows it.

    Parameters
    ----------
    lower, upper : float
        Infinite where that side is not known, or where q is infinite.
    rigorous : bool
        Whether both sides are proved for the real numbers that the stored floats define.
    method : str
        How they were found, in words.
    witness : mapping, optional
        What attains a side (an eigenvector, parameters in a ball), or multipliers that prove one;
        representable in JSON. `check_witness` proves the sides again from it.

    Raises
    ------
    TypeError, ValueError
        Sides that are not numbers or cross each other, an empty method, a witness that JSON cannot hold.
    """

    lower: float
    upper: float
    rigorous: bool
    method: str
    witness: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number, got {type(value).__name__}")
            object.__setattr__(self, name, float(value))
        if not self.lower <= self.upper:
            raise ValueError(f"lower must be <= upper, got [{self.lower!r}, {self.upper!r}]")
        if not isinstance(self.rigorous, bool):
            raise TypeError(f"rigorous must be True or False, got {self.rigorous!r}")
        if not isinstance(self.method, str) or not self.method.strip():
            raise ValueError(f"method must say how the bound was found, got {self.method!r}")
        if self.witness is not None:
            _check_witness(self.witness)

    def at_least(self, value: float) -> bool | None:
        """Whether ``q >= value``: True and False are decided by the sides, None is undecided.

        Raises
        ------
        ValueError
            The value is NaN.
        """
        _check_number(value)
        if self.lower >= value:
            return True
        return False if self.upper < value else None

    def at_most(self, value: float) -> bool | None:
        """Whether ``q <= value``: True and False are decided by the sides, None is undecided.

        Raises
        ------
        ValueError
            The value is NaN.
        """
        _check_number(value)
        if self.upper <= value:
            return True
        return False if self.lower > value else None

    def to_json(self) -> dict[str, Any]:
        """The bound as JSON values, exactly: infinite sides are texts, long lists of the witness bytes."""
        return {
            "lower": number_to_json(self.lower),
            "upper": number_to_json(self.upper),
            "rigorous": self.rigorous,
            "method": self.method,
            "witness": None if self.witness is None else witness_to_json(self.witness),
        }

    @classmethod
    def from_json(cls, value: Any) -> Bound:
        """The bound that `to_json` stored.

        Raises
        ------
        TypeError, ValueError
            Something else is stored, or no bound: sides that cross.
        """
        fields = fields_of(value, "a bound", ("lower", "upper", "rigorous", "method", "witness"))
        witness = None if fields["witness"] is None else witness_from_json(fields["witness"])
        lower, upper = (number_from_json(fields[name]) for name in ("lower", "upper"))
        return cls(lower, upper, fields["rigorous"], fields["method"], witness)


def _check_number(value: float) -> None:
    if math.isnan(value):
        raise ValueError("value must be a number to compare with, got NaN")


def _check_witness(witness: Any) -> None:
    if not isinstance(witness, Mapping):
        raise TypeError(f"witness must be a mapping, got {type(witness).__name__}")
    try:
        json.dumps(dict(witness), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"witness must be representable in JSON: {error}") from None
