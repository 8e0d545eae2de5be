"""A number known from two sides."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
