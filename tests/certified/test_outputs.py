"""Log densities, gradients and Fisher matrices in balls, against textbook densities in 600 digits.

The reference knows the log density of y alone, as a textbook writes it; gradient and Fisher are its
derivatives by differences (in an exponential family with natural parameter f the Fisher is minus the second
derivative).
"""

from __future__ import annotations

from fractions import Fraction

import flint
import mpmath
import numpy as np
import pytest

from grng_ref.certified.outputs import read_likelihood, read_targets

DIGITS = 600
STEP = mpmath.mpf(10) ** -100
NOISE = mpmath.mpf(10) ** -150
VARIANCE = Fraction(3, 10)


def mp(value) -> mpmath.mpf:
    return mpmath.mpf(float(value))


def log_density(name: str, f: list, y) -> mpmath.mpf:
    if name == "categorical":
        return mpmath.log(mpmath.exp(f[int(y)]) / sum(mpmath.exp(value) for value in f))
    total = mpmath.mpf(0)
    for value, label in zip(f, y, strict=True):
        if name == "gaussian":
            s2 = mpmath.mpf(3) / 10
            spread = mpmath.sqrt(2 * mpmath.pi * s2)
            total += mpmath.log(mpmath.exp(-((value - mp(label)) ** 2) / (2 * s2)) / spread)
        elif name == "bernoulli":
            p = 1 / (1 + mpmath.exp(-value))
            total += mpmath.log(p if label == 1 else 1 - p)
        else:
            rate = mpmath.exp(value)
            total += mpmath.log(rate ** mp(label) * mpmath.exp(-rate) / mpmath.factorial(mp(label)))
    return total


def derivatives(name: str, f: np.ndarray, y) -> tuple[list, list]:
    """Minus the first and second derivatives of the log density, by central differences of step 1e-100.

    Their error is 1e-200 of a derivative of higher order, and rounding to 600 digits over the square of the
    step, 1e-400: with what the largest terms here add (1e30), below NOISE.
    """
    K = len(f)

    def at(*moves: tuple[int, int]) -> mpmath.mpf:
        moved = [mp(value) for value in f]
        for k, sign in moves:
            moved[k] += sign * STEP
        return log_density(name, moved, y)

    gradient = [-(at((k, 1)) - at((k, -1))) / (2 * STEP) for k in range(K)]
    fisher = [
        [
            -(at((i, 1), (j, 1)) - at((i, 1), (j, -1)) - at((i, -1), (j, 1)) + at((i, -1), (j, -1)))
            / (4 * STEP * STEP)
            for j in range(K)
        ]
        for i in range(K)
    ]
    return gradient, fisher


CASES = {
    "gaussian": [([0.25, -3.0, 1e3], [0.5, 7.0, -1.0]), ([1.0], [1.0])],
    "categorical": [
        ([70.0, 0.0, 1.0, -1.0], 0),
        ([70.0, 0.0, 1.0, -1.0], 3),
        ([0.1, 0.2, 0.3], 1),
        ([0.0, 0.0], 1),
        ([5.0], 0),
    ],
    "bernoulli": [([70.0, -70.0, 0.0], [1.0, 0.0, 1.0]), ([70.0, -70.0, 0.3], [0.0, 1.0, 0.0])],
    "poisson": [([0.3, -60.0, 3.0], [0.0, 0.0, 25.0]), ([-2.0, 5.0], [3.0, 170.0])],
}
ALL = [(name, np.array(f), np.array(y)) for name, rows in CASES.items() for f, y in rows]


def number(exact: flint.arb) -> mpmath.mpf:
    mantissa, exponent = exact.man_exp()
    return mpmath.ldexp(mpmath.mpf(int(mantissa)), int(exponent))


def check(ball: flint.arb, truth: mpmath.mpf, bits: int) -> None:
    """The ball holds the truth, and has lost at most 16 of its bits."""
    assert abs(number(ball.mid()) - truth) <= number(ball.rad()) + NOISE
    assert abs(truth) < NOISE or ball.rel_accuracy_bits() >= bits - 16


@pytest.mark.parametrize("bits", [53, 256])
@pytest.mark.parametrize(("name", "f", "y"), ALL, ids=[f"{n}{i}" for i, (n, _, _) in enumerate(ALL)])
def test_balls_hold_the_derivatives_of_the_density(name, f, y, bits):
    function = read_likelihood(name, VARIANCE if name == "gaussian" else None)
    with flint.ctx.workprec(bits):
        outputs = function(f, y)
    with mpmath.workdps(DIGITS):
        gradient, fisher = derivatives(name, f, y)
        check(outputs.log_density, log_density(name, [mp(v) for v in f], y), bits)
        for ball, truth in zip(outputs.gradient, gradient, strict=True):
            check(ball, truth, bits)
        for row, truths in zip(outputs.fisher, fisher, strict=True):
            for ball, truth in zip(row, truths, strict=True):
                check(ball, truth, bits)
        # planted: errors of 24 bits more than the precision, and a ball that was widened by as much
        small = mpmath.ldexp(1, 24 - bits)
        for ball, truth in ((outputs.gradient[0], gradient[0]), (outputs.fisher[0][0], fisher[0][0])):
            with pytest.raises(AssertionError):
                check(ball, truth + small * max(abs(truth), 1), bits)
            if abs(truth) > NOISE:
                with pytest.raises(AssertionError):
                    check(ball * flint.arb(1, 2.0 ** (24 - bits)), truth, bits)


def test_numbers_beyond_every_exponential():
    """f = 1e308: exp(-f) is below anything; nothing becomes NaN, and 1 - p is no negative number."""
    with flint.ctx.workprec(128):
        soft = read_likelihood("categorical", None)(np.array([1e308, -1e308]), np.array(0))
        logistic = read_likelihood("bernoulli", None)(np.array([1e308, -1e308]), np.array([0.0, 1.0]))
    assert all(ball.is_finite() for ball in (*soft.gradient, *soft.fisher[0], soft.log_density))
    assert all(abs(ball) < flint.arb(10) ** -300 for ball in soft.gradient)
    assert [bool(abs(ball).contains(1)) for ball in logistic.gradient] == [True, True]
    assert logistic.log_density.rel_accuracy_bits() > 100
    assert logistic.log_density < -flint.arb(1.7e308)


@pytest.mark.parametrize(
    ("name", "y", "error", "message"),
    [
        ("gaussian", np.ones((2, 2)), ValueError, r"y must have shape \(2, 3\)"),
        ("gaussian", np.ones((2, 3), dtype=int), TypeError, "y must be a float32 or float64"),
        ("bernoulli", np.full((2, 3), 0.5), ValueError, "y must hold zeros and ones only, got an entry 0.5"),
        (
            "poisson",
            np.full((2, 3), 1.5),
            ValueError,
            "y must hold nonnegative whole numbers, got an entry 1.5",
        ),
        ("poisson", np.full((2, 3), -1.0), ValueError, "y must hold nonnegative whole numbers"),
        ("categorical", np.zeros(2), TypeError, "y must have an integer dtype"),
        ("categorical", np.zeros(3, dtype=int), ValueError, r"y must have shape \(2,\)"),
        (
            "categorical",
            np.array([0, 3]),
            ValueError,
            "y must hold class labels 0..2, got labels from 0 to 3",
        ),
        ("categorical", np.array([-1, 2]), ValueError, "y must hold class labels 0..2, got labels from -1"),
        ("categorical", [0, 1], TypeError, "y must be an array"),
    ],
)
def test_bad_targets(name, y, error, message):
    with pytest.raises(error, match=message):
        read_targets(name, y, 2, 3)


def test_bad_likelihoods():
    with pytest.raises(ValueError, match="likelihood must be one of 'gaussian', 'categorical'"):
        read_likelihood("softmax", None)
    with pytest.raises(ValueError, match=r"variance must be None for the likelihood 'poisson', got 1\.0"):
        read_likelihood("poisson", 1.0)
    with pytest.raises(ValueError, match="variance must be a finite number > 0"):
        read_likelihood("gaussian", 0.0)
