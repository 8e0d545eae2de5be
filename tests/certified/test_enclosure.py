"""Balls as they leave ball arithmetic: they hold the truth, are narrow, and are judged exactly."""

from __future__ import annotations

import math
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Backend

from grng_ref.arrays import NumericalError
from grng_ref.certified import Enclosure
from grng_ref.certified.enclosure import enclose

HALF_UNIT = 2.0**-53  # the relative error of a correctly rounded normal number
FLOATS = st.floats(-1e30, 1e30, allow_subnormal=False)


def of_thirds(*numerators: int) -> Enclosure:
    """The enclosure of n/3 for each n."""
    with flint.ctx.workprec(256):
        return enclose("thirds", flint.arb_mat([[flint.arb(n) / 3 for n in numerators]]), (len(numerators),))


def holds(enclosure: Enclosure, truth: list[Fraction]) -> bool:
    """Containment of rationals, by a loop of its own."""
    m, r = enclosure.midpoint.ravel(), enclosure.radius.ravel()
    return all(abs(t - Fraction(a)) <= Fraction(b) for t, a, b in zip(truth, m, r, strict=True))


@pytest.mark.parametrize("bits", [53, 64, 256, 1000])
@given(n=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=4), e=st.integers(-300, 300))
def test_the_truth_is_inside_and_the_ball_is_narrow(bits, n, e):
    scale = Fraction(2) ** e
    with flint.ctx.workprec(bits):
        balls = [flint.arb(flint.fmpq(k, 7)) * flint.arb(2) ** e for k in n]
        enclosure = enclose("x", flint.arb_mat([balls]), (len(n),))
    assert holds(enclosure, [Fraction(k, 7) * scale for k in n])
    # one rounding to float64, and one of the ball itself at 53 bits
    unit = HALF_UNIT * (1 + 2.0 ** (55 - bits)) * (1 + 1e-9)
    assert np.all(enclosure.radius <= unit * np.abs(enclosure.midpoint))


def test_a_shrunk_enclosure_does_not_hold_the_truth():
    truth = [Fraction(1, 3), Fraction(2, 3)]
    enclosure = of_thirds(1, 2)
    assert holds(enclosure, truth)
    # the ball of 256 bits is a point beside the rounding to float64: the radius is that error, no more
    assert not holds(Enclosure(enclosure.midpoint, 0.99 * enclosure.radius), truth)
    assert not holds(Enclosure(enclosure.midpoint, 0.0 * enclosure.radius), truth)


def test_contains_compares_exactly(backend: Backend):
    third = np.array([1 / 3, 2 / 3]).astype(backend.dtype)
    one_over = of_thirds(1, 2)
    # the float64 next to 1/3 lies in the ball; float32 has no number there
    assert one_over.contains(backend.asarray(third)) == (backend.dtype == "float64")
    wide = Enclosure(one_over.midpoint, np.full(2, 1e-7))
    assert wide.contains(backend.asarray(third))
    off = np.nextafter(third, np.asarray(1.0, dtype=backend.dtype))
    assert not one_over.contains(backend.asarray(off))
    edge = Enclosure(np.array([1.0]), np.array([0.25]))
    assert edge.contains(backend.asarray(np.array([1.25])))
    assert not edge.contains(backend.asarray(np.array([1.2500002])))


@given(
    m=st.lists(FLOATS, min_size=2, max_size=4),
    r=st.floats(0.0, 1e-3),
    position=st.floats(-1.0, 1.0),
    error=st.floats(-0.1, 0.1),
)
def test_relative_error_bound_is_a_bound(m, r, position, error):
    """For every t of the balls, tried at one place of each."""
    midpoint = np.array(m)
    enclosure = Enclosure(midpoint, r * np.abs(midpoint))
    computed = midpoint * (1.0 + error)
    bound = enclosure.relative_error_bound(computed)
    truth = [
        Fraction(a) + Fraction(position) * Fraction(b)
        for a, b in zip(midpoint, enclosure.radius, strict=True)
    ]
    square = sum((Fraction(c) - t) ** 2 for c, t in zip(computed, truth, strict=True))
    size = sum(t * t for t in truth)
    assert bound == math.inf or Fraction(bound) ** 2 * size >= square


def test_relative_error_bound_by_hand():
    exact = Enclosure(np.array([3.0, 4.0]), np.zeros(2))
    assert exact.relative_error_bound(np.array([3.0, 4.0])) == 0.0
    assert exact.relative_error_bound(np.array([3.0, 4.5])) == pytest.approx(0.1, rel=1e-15)
    wide = Enclosure(np.array([3.0, 4.0]), np.array([0.0, 1.0]))
    # |computed - t| is at most 1, |t| at least sqrt(9 + 9)
    assert wide.relative_error_bound(np.array([3.0, 4.0])) == pytest.approx(1 / math.sqrt(18), rel=1e-15)
    zero = Enclosure(np.zeros(2), np.zeros(2))
    assert zero.relative_error_bound(np.zeros(2)) == 0.0
    assert zero.relative_error_bound(np.array([0.0, 1e-300])) == math.inf
    assert Enclosure(np.array([1.0]), np.array([1.0])).relative_error_bound(np.array([1.0])) == math.inf


@given(m=FLOATS, r=st.floats(0.0, 1e30))
def test_ends_are_rounded_outwards(m, r):
    ball = Enclosure(np.array([m]), np.array([r]))
    lower, upper = Fraction(float(ball.lower[0])), Fraction(float(ball.upper[0]))
    assert lower <= Fraction(m) - Fraction(r)
    assert upper >= Fraction(m) + Fraction(r)
    # by two units in the last place of the larger number at most
    unit = Fraction(2) * Fraction(math.ulp(abs(m) + r))
    assert lower >= Fraction(m) - Fraction(r) - unit
    assert upper <= Fraction(m) + Fraction(r) + unit
    point = Enclosure(np.array([m]), np.zeros(1))
    assert (point.lower[0], point.upper[0]) == (m, m)


def test_ends_of_a_single_number_are_arrays():
    pi = enclose("pi", flint.arb.pi(), ())
    assert pi.lower.shape == pi.upper.shape == ()
    assert pi.lower < math.pi < pi.upper


def test_single_numbers():
    pi = enclose("pi", flint.arb.pi(), ())
    assert pi.shape == ()
    assert pi.contains(math.pi)
    assert pi.contains(np.asarray(math.pi))
    assert not pi.contains(math.nextafter(math.pi, 4.0))
    assert pi.relative_error_bound(22 / 7) == pytest.approx(4.0249943477e-4, rel=1e-9)


def test_exponents_beyond_float64():
    with flint.ctx.workprec(128):
        tiny = enclose("tiny", flint.arb_mat([[flint.arb(-1e6).exp(), flint.arb(-1e308).exp()]]), (2,))
        subnormal = enclose("subnormal", flint.arb(-720).exp(), ())
        with pytest.raises(NumericalError, match="huge leaves the range of float64"):
            enclose("huge", flint.arb(1000).exp(), ())
        with pytest.raises(NumericalError, match="huge leaves the range of float64"):
            enclose("huge", flint.arb(1e15).exp(), ())
        # 2^1024 - 1 has no float64 below infinity that is next to it
        with pytest.raises(NumericalError, match="huge leaves the range of float64"):
            enclose("huge", flint.arb(2) ** 1024 - 1, ())
    assert np.array_equal(tiny.midpoint, [0.0, 0.0])
    assert np.array_equal(tiny.radius, [5e-324, 5e-324])
    assert 0.0 < subnormal.midpoint < 2.3e-308
    assert subnormal.radius == 5e-324


@pytest.mark.parametrize("ball", ["nan", "1 +/- inf"])
def test_unbounded_balls_are_refused(ball):
    value = flint.arb("nan") if ball == "nan" else flint.arb(1, flint.arb.pos_inf())
    with pytest.raises(NumericalError, match="x has no finite enclosure at this precision: raise precision"):
        enclose("x", value, ())


@pytest.mark.parametrize(
    ("midpoint", "radius", "error", "message"),
    [
        ([1.0], np.ones(1), TypeError, "midpoint must be a float64 NumPy array, got builtins.list"),
        (np.ones(1, np.float32), np.ones(1), TypeError, "midpoint must be .* got numpy.ndarray of float32"),
        (np.ones(()), np.float64(1.0), TypeError, "radius must be .* got numpy.float64"),
        (np.ones(2), np.ones(1), ValueError, r"radius must have shape \(2,\)"),
        (np.ones(1), -np.ones(1), ValueError, "radius must be >= 0, got an entry -1"),
        (np.ones(1), np.full(1, np.inf), ValueError, "radius must be finite"),
        (np.full(1, np.nan), np.ones(1), ValueError, "midpoint must be finite"),
    ],
)
def test_bad_enclosures(midpoint, radius, error, message):
    with pytest.raises(error, match=message):
        Enclosure(midpoint, radius)


def test_bad_arrays_to_compare_with():
    enclosure = of_thirds(1, 2)
    for method in (enclosure.contains, enclosure.relative_error_bound):
        with pytest.raises(ValueError, match=r"must have shape \(2,\) = the shape of the enclosure"):
            method(np.ones(3))
        with pytest.raises(TypeError, match="must be an array"):
            method([0.3, 0.6])
        with pytest.raises(TypeError, match="float32 or float64"):
            method(np.array([0, 1]))
        with pytest.raises(ValueError, match="must be finite"):
            method(np.array([np.nan, 1.0]))
