"""The bounds of one point, computed once each, and rational arithmetic with two sides."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from grng_ref import Gaussian, Problem, to_numpy
from grng_ref.arrays import Array, check_real
from proofs_check.bounds import Bound, gram_max, gram_min, jacobian_change, jacobian_lipschitz, residual_norm
from proofs_check.bounds.balls import downward, root_downward, root_upward, upward

from .certificate import Assumption, Certificate, Evidence, Instance, Settings, fingerprint

NOT_SQUARED = (
    "no theorem here: the likelihood is {}, and they are about the squared loss, Gaussian(variance=1.0)"
)


def settings_of(eta: Any, rho: Any, lam: Any) -> Settings:
    """Checked numbers."""
    return Settings(
        check_real("eta", eta, minimum=0.0, exclusive=True),
        check_real("rho", rho, minimum=0.0),
        check_real("lam", lam, minimum=0.0),
    )


class Point:
    """The bounds of one point, each computed when it is first asked for and kept as evidence."""

    def __init__(self, problem: Problem, theta: Array, x: Array, y: Array) -> None:
        if not isinstance(problem, Problem):
            raise TypeError(f"problem must be a gr.Problem, got {type(problem).__name__}")
        self.arguments = problem, theta, x, y
        self._found: dict[tuple[str, float | None], Bound] = {}

    def bound(self, quantity: str, radius: float | None = None) -> Bound:
        """Of a quantity, on the ball of a radius where it has one."""
        key = quantity, radius
        if key not in self._found:
            self._found[key] = _BOUNDS[quantity](
                *Evidence(quantity, _NOTHING, radius).arguments(*self.arguments)
            )
        return self._found[key]

    def evidence(self, *keys: tuple[str, float | None]) -> tuple[Evidence, ...]:
        """Those bounds as evidence."""
        return tuple(Evidence(quantity, self.bound(quantity, radius), radius) for quantity, radius in keys)

    @property
    def unfit(self) -> str:
        """Why no theorem here is about this problem; empty if one may be."""
        likelihood = self.arguments[0].likelihood
        if type(likelihood) is Gaussian and likelihood.variance == 1.0:
            return ""
        return NOT_SQUARED.format(likelihood)

    @property
    def num_examples(self) -> int:
        """N."""
        return int(self.arguments[2].shape[0])

    def squared(self, quantity: str) -> tuple[Fraction, Fraction]:
        """Both sides of lmin or lmax of ``J J^T``, not negative."""
        found = self.bound(quantity)
        return max(Fraction(found.lower), Fraction(0)), max(Fraction(found.upper), Fraction(0))

    @property
    def s0(self) -> tuple[float, float]:
        """Both sides of the least singular value of J."""
        low, high = self.squared("gram_min")
        return root_downward(low), root_upward(high)

    def numbers(self, rho: float, **more: float) -> dict[str, float]:
        """What a guarantee needs, on the safe side."""
        top = max(self.bound("gram_max").upper, 0.0) if rho else 0.0
        return {
            "s": self.s0[0],
            "h": self.bound("residual_norm").upper,
            "top": top,
            "n": self.num_examples,
            **more,
        }

    def undecided(self, theorem: str, settings: Settings, detail: str) -> Certificate:
        """A certificate of nothing, with the reason."""
        return Certificate(theorem, (), detail, settings)

    def certificate(
        self,
        theorem: str,
        settings: Settings,
        assumptions: list[Assumption],
        keys: list[tuple[str, float | None]],
        detail: str,
        numbers: dict[str, float] | None = None,
    ) -> Certificate:
        """A certificate at this point."""
        _, theta, x, y = self.arguments
        model = self.arguments[0].model
        sizes = "-".join(map(str, model.sizes))
        text = f"{model.activation} {sizes}, n = {self.num_examples}; {detail}"
        return Certificate(
            theorem,
            tuple(assumptions),
            text,
            settings,
            numbers or {},
            self.evidence(*keys),
            fingerprint=fingerprint(theta, x, y),
            instance=Instance(*to_numpy(self.arguments)),
        )


_NOTHING = Bound(-math.inf, math.inf, True, "nothing is known yet")
_BOUNDS: dict[str, Any] = {
    "gram_min": gram_min,
    "gram_max": gram_max,
    "residual_norm": residual_norm,
    "jacobian_lipschitz": jacobian_lipschitz,
    "jacobian_change": jacobian_change,
}


# --- rational arithmetic with two sides --------------------------------------------------------------------


def above(numerator: Fraction | float, denominator: Fraction) -> float:
    """A float at least the quotient of nonnegative numbers; infinite where that is not bounded."""
    if numerator == math.inf or denominator <= 0:
        return math.inf
    return upward(Fraction(numerator) / denominator)


def below(numerator: Fraction | float, denominator: Fraction) -> float:
    """A float at most the quotient of nonnegative numbers."""
    if numerator == 0:
        return 0.0
    if numerator == math.inf or denominator <= 0:
        return math.inf
    return downward(Fraction(numerator) / denominator)


def between(low: float, high: float, method: str) -> Bound:
    """A bound whose sides may have been rounded past each other."""
    return Bound(min(low, high), high, True, method)


def exact(value: float) -> Fraction | float:
    """The rational that a float is; infinity as it is."""
    return value if math.isinf(value) else Fraction(value)


def times(a: float, b: float) -> Fraction | float:
    """The product, infinite if either is."""
    return math.inf if math.inf in (a, b) else Fraction(a) * Fraction(b)


def under(limit: Fraction) -> float:
    """The greatest float below a number: ``q <= under(c)`` and ``q < c`` are the same for floats q."""
    found = downward(limit)
    return found if Fraction(found) < limit else math.nextafter(found, -math.inf)


def exactly(value: float) -> Bound:
    """A number that is known."""
    return Bound(value, value, True, "the stored number")
