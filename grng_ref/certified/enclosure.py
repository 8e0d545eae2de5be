"""Float64 balls around true values, entry by entry, as they leave ball arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..arrays import Array, NumericalError, check_finite, check_shape
from .library import on_host
from .rounding import fractions, root_upward, sum_of_squares, upward

_SMALL, _LARGE = 2.0**-900, 2.0**900  # between them python-flint's own conversion is taken
_TINY = float(np.finfo(np.float64).smallest_subnormal)


@dataclass(frozen=True, eq=False)
class Enclosure:
    """An array of balls ``[m - r, m + r]``, each of which holds the true value of its entry.

    Attributes
    ----------
    midpoint : numpy.ndarray, float64
        m, next to the true value: where the balls were narrow before, correctly rounded or nearly so.
    radius : numpy.ndarray, float64
        r >= 0, rounded upwards, the rounding of m included; so about 1e-16 of m at best.

    Raises
    ------
    TypeError, ValueError
        The two are not finite float64 arrays of one shape, or a radius is negative.
    """

    midpoint: np.ndarray
    radius: np.ndarray

    def __post_init__(self) -> None:
        for name, value in (("midpoint", self.midpoint), ("radius", self.radius)):
            if not isinstance(value, np.ndarray) or value.dtype != np.float64:
                raise TypeError(f"{name} must be a float64 NumPy array, got {_kind(value)}")
        check_shape("radius", self.radius, self.midpoint.shape, "the shape of the midpoint")
        check_finite(midpoint=self.midpoint, radius=self.radius)
        if np.any(self.radius < 0.0):
            raise ValueError(f"radius must be >= 0, got an entry {self.radius.min():g}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array; ``()`` for a single number."""
        return tuple(self.midpoint.shape)

    @property
    def lower(self) -> np.ndarray:
        """``m - r``, rounded downwards: no true value is less."""
        return np.where(
            self.radius == 0.0, self.midpoint, np.nextafter(self.midpoint - self.radius, -math.inf)
        )

    @property
    def upper(self) -> np.ndarray:
        """``m + r``, rounded upwards: no true value is greater."""
        return np.where(
            self.radius == 0.0, self.midpoint, np.nextafter(self.midpoint + self.radius, math.inf)
        )

    def contains(self, array: Array) -> bool:
        """Whether every entry of an array, taken exactly, lies in its ball.

        Parameters
        ----------
        array : float32 or float64 array of any backend, of the enclosure's shape
            For a single number, a float too.

        Raises
        ------
        TypeError, ValueError
            Not such an array, or not finite.
        """
        values = fractions(self._values("array", array))
        balls = zip(fractions(self.midpoint), fractions(self.radius), values, strict=True)
        return all(abs(value - middle) <= radius for middle, radius, value in balls)

    def relative_error_bound(self, computed: Array) -> float:
        """A rigorous upper bound of ``|computed - t| / |t|`` over all t in the balls, in the 2-norm.

        The norm is over all entries (Frobenius for matrices), and evaluated exactly. With a perfect
        ``computed`` it is near 1e-16, the radius itself. Infinite if t may be zero and is not certainly
        equal to ``computed``.

        Parameters
        ----------
        computed : float32 or float64 array of any backend, of the enclosure's shape
            For a single number, a float too.

        Raises
        ------
        TypeError, ValueError
            Not such an array, or not finite.
        """
        values = fractions(self._values("computed", computed))
        balls = list(zip(fractions(self.midpoint), fractions(self.radius), values, strict=True))
        error = sum_of_squares(abs(value - middle) + radius for middle, radius, value in balls)
        least = sum_of_squares(max(abs(middle) - radius, Fraction(0)) for middle, radius, _ in balls)
        if error == 0:
            return 0.0
        return root_upward(error / least) if least else math.inf

    def _values(self, name: str, array: Array) -> np.ndarray:
        if self.shape == () and isinstance(array, float):
            array = np.asarray(array)
        return on_host(name, array, self.shape, "the shape of the enclosure")


def enclose(name: str, balls: Any, shape: tuple[int, ...]) -> Enclosure:
    """The enclosure of an ``arb``, or of an ``arb_mat`` in row-major order.

    Raises
    ------
    NumericalError
        A ball is unbounded, or its float64 form would be.
    """
    entries = [balls] if shape == () else balls.entries()
    pairs = [_ball(name, entry) for entry in entries]
    midpoint, radius = (np.array(part, dtype=np.float64).reshape(shape) for part in zip(*pairs, strict=True))
    return Enclosure(midpoint, radius)


def _ball(name: str, ball: Any) -> tuple[float, float]:
    arb = type(ball)
    if not ball.is_finite():
        raise NumericalError(
            f"{name} has no finite enclosure at this precision: raise precision, unless its value overflows"
        )
    midpoint = float(ball)  # of the midpoint, to nearest
    if not _SMALL < abs(midpoint) < _LARGE:
        midpoint = _rounded(ball.mid(), up=False)
    if not math.isfinite(midpoint):
        raise NumericalError(f"{name} leaves the range of float64")
    error = (ball - arb(midpoint)).abs_upper()
    radius = float(error)
    if not _SMALL < radius < _LARGE:
        radius = _rounded(error, up=True)
    elif arb(radius) < error:
        radius = math.nextafter(radius, math.inf)
    if not math.isfinite(radius):
        raise NumericalError(f"{name} leaves the range of float64")
    return midpoint, radius


def _rounded(exact: Any, *, up: bool) -> float:
    """An exact arb as float64, its exponent of any size: to nearest, or (not negative) upwards."""
    mantissa, exponent = (int(part) for part in exact.man_exp())
    size = mantissa.bit_length() + exponent  # |exact| < 2^size
    if mantissa == 0:
        return 0.0
    if size < -1100:
        return _TINY if up else 0.0
    if size > 1024:
        return math.inf
    value = Fraction(mantissa) * Fraction(2) ** exponent
    return upward(value) if up else _nearest_or_infinite(value)


def _nearest_or_infinite(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _kind(value: Any) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return f"{kind} of {value.dtype}" if isinstance(value, np.ndarray) else kind
