"""Activations in balls: values and slopes against textbook formulas in digits, tails and wide balls too."""

from __future__ import annotations

import flint
import mpmath
import numpy as np
import pytest
from networks_in_digits import DIGITS, STEP, VALUES, mp

from grng_ref.certified.activations import ACTIVATIONS, logistic, read_activation, softplus

POINTS = (-700.0, -40.0, -5.5, -1.0, -1e-3, -1e-300, 1e-300, 0.3, 1.0, 7.25, 40.0, 700.0)
# A slope by differences of step 1e-60 is wrong by 1e-120 of the third derivative, at most 1e6 times the slope
# here, and by rounding to 1300 digits over the step, of a value that is at most 1e608 times the slope (tanh
# at 700): far below NOISE, relative to the slope.
TAIL_DIGITS = 1300
NOISE = mpmath.mpf(10) ** -80


def value_and_slope(name: str, x: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf]:
    value = VALUES[name]
    return value(x), (value(x + STEP) - value(x - STEP)) / (2 * STEP)


def number(exact: flint.arb) -> mpmath.mpf:
    mantissa, exponent = exact.man_exp()
    return mpmath.ldexp(mpmath.mpf(int(mantissa)), int(exponent))


def inside(ball: flint.arb, truth: mpmath.mpf, noise: mpmath.mpf = NOISE) -> bool:
    return abs(number(ball.mid()) - truth) <= number(ball.rad()) + noise * abs(truth)


@pytest.mark.parametrize("bits", [53, 160])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_points_and_tails(name, bits):
    """Each ball holds the truth, and has lost at most 24 of its bits."""
    for point in POINTS:
        if name == "relu" and abs(point) < STEP:
            continue  # the difference would step over the kink
        with flint.ctx.workprec(bits):
            balls = ACTIVATIONS[name](flint.arb(point))
        with mpmath.workdps(TAIL_DIGITS):
            for ball, truth in zip(balls, value_and_slope(name, mp(point)), strict=True):
                assert inside(ball, truth), (point, ball)
                assert ball.is_zero() or ball.rel_accuracy_bits() >= bits - 24, (point, ball)
                if truth != 0:
                    assert not inside(ball, truth * (1 + mpmath.mpf(2) ** (26 - bits))), (point, ball)


@pytest.mark.parametrize("radius", [1e-6, 0.5, 3.0, 60.0])
@pytest.mark.parametrize("middle", [-50.0, -2.0, 0.0, 0.4, 50.0])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_wide_balls_hold_what_their_numbers_give(name, middle, radius):
    with flint.ctx.workprec(128):
        balls = ACTIVATIONS[name](flint.arb(middle, radius))
    with mpmath.workdps(DIGITS):
        for position in np.linspace(-1.0, 1.0, 9):
            x = mp(middle) + mp(position) * mp(radius)
            if x != 0 or name != "relu":
                for ball, truth in zip(balls, value_and_slope(name, x), strict=True):
                    assert not ball.is_finite() or inside(ball, truth), (position, ball)
        if radius < 1e-3 and middle != 0.0:
            assert all(ball.rad() <= 1e-5 * max(1.0, abs(middle)) for ball in balls)


def test_the_kink_of_relu():
    at = {0.0: ACTIVATIONS["relu"](flint.arb(0.0)), -1e-300: ACTIVATIONS["relu"](flint.arb(-1e-300))}
    for value, slope in at.values():
        assert value.is_zero()
        assert slope.is_zero()
    value, slope = ACTIVATIONS["relu"](flint.arb(1e-300))
    assert (value, slope) == (flint.arb(1e-300), flint.arb(1))
    value, slope = ACTIVATIONS["relu"](flint.arb(0.25, 1.0))
    assert slope.contains(0)
    assert slope.contains(1)
    assert value.contains(0)
    assert value.contains(flint.arb(1.25))
    # closed at zero from either side: zero itself has slope 0, its neighbours on the right slope 1
    assert ACTIVATIONS["relu"](flint.arb(-1.0, 1.0))[1].contains(0)
    right = ACTIVATIONS["relu"](flint.arb(1.0, 1.0))[1]
    assert right.contains(0)
    assert right.contains(1)


def test_logistic_and_softplus_at_the_ends():
    with flint.ctx.workprec(128):
        for x in (flint.arb(1e308), flint.arb(-1e308), flint.arb(0, 1e308)):
            assert logistic(x).is_finite()
            assert softplus(x).is_finite()
        assert logistic(flint.arb(0)) == flint.arb(0.5)
        everything = logistic(flint.arb(0, 1e308))
        assert everything.contains(0)
        assert everything.contains(1)
        assert everything.rad() < 0.51
        assert logistic(flint.arb.nan()).is_nan()


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "identity"])
def test_planted_slopes_lie_outside(name):
    x = 0.6
    with flint.ctx.workprec(128):
        value, slope = ACTIVATIONS[name](flint.arb(x))
        planted = {"twice": 2 * slope, "one": flint.arb(1) + slope * 0 if name != "relu" else 2 * slope}
        planted |= {"value for slope": value}
    with mpmath.workdps(DIGITS):
        truth = value_and_slope(name, mp(x))[1]
        assert inside(slope, truth)
        assert [which for which, ball in planted.items() if inside(ball, truth)] == []


def test_names():
    assert read_activation("gelu") is ACTIVATIONS["gelu"]
    with pytest.raises(ValueError, match=r"problem\.model\.activation must be one of .*'tanh'.*got 'swish'"):
        read_activation("swish")
    with pytest.raises(TypeError, match=r"problem\.model\.activation must be a name .* got function"):
        read_activation(lambda x: x)
