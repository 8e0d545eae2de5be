"""The oracles themselves, against closed forms and high precision; each would catch a planted error."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_check import oracles

EPS = float(np.finfo(np.float64).eps)
DIFFERENCES = 1e-10  # five-point differences: eps^(4/5) = 3e-13 times derivatives of order up to 1e2
RNG = np.random.default_rng(2)


def close(actual, expected, tolerance):
    """The largest error relative to the largest entry."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-300)


MODULES = sorted(Path(oracles.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("file", MODULES, ids=lambda path: path.stem)
def test_the_oracles_import_nothing_of_the_project(file):
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 1:
            assert node.module in {path.stem for path in MODULES}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(node.module.partition(".")[0])
    assert names <= {
        "__future__",
        "importlib",
        "itertools",
        "math",
        "collections",
        "typing",
        "numpy",
        "scipy",
    }


# --- differences ---------------------------------------------------------------------------------------


def curve(x):
    """Two smooth functions of three variables."""
    return np.array([np.sin(x[0] * x[1]) + x[2] ** 3, np.exp(x[0] - x[2])])


X = np.array([0.3, -1.2, 0.7])
CURVE_JACOBIAN = np.array(
    [
        [-1.2 * math.cos(0.36), 0.3 * math.cos(0.36), 3 * 0.49],
        [math.exp(-0.4), 0.0, -math.exp(-0.4)],
    ]
)


def test_complex_step_is_exact_to_roundoff():
    close(oracles.complex_step_jacobian(curve, X), CURVE_JACOBIAN, 4 * EPS)
    v = np.array([2.0, -1.0, 0.5])
    close(oracles.complex_step_directional(curve, X, v), CURVE_JACOBIAN @ v, 8 * EPS)
    close(oracles.complex_step_gradient(lambda z: curve(z)[0], X), CURVE_JACOBIAN[0], 4 * EPS)


def test_complex_step_does_not_lose_tiny_derivatives():
    # a forward difference of x^3 at 1e-8 sees nothing of 3e-16 in float64
    close(oracles.complex_step_gradient(lambda z: 1.0 + z[0] ** 3, np.array([1e-8])), [3e-16], 4 * EPS)


def test_central_differences():
    close(oracles.central_jacobian(curve, X), CURVE_JACOBIAN, DIFFERENCES)
    v = np.array([2.0, -1.0, 0.5])
    close(oracles.central_directional(curve, X, v), CURVE_JACOBIAN @ v, DIFFERENCES)
    close(oracles.central_directional(curve, X, 1e6 * v), 1e6 * CURVE_JACOBIAN @ v, DIFFERENCES)
    assert not oracles.central_directional(curve, X, 0 * v).any()


def test_central_differences_are_of_fourth_order():
    # exact (up to roundoff) on quartics, wrong on quintics by 4 h^4 f^(5) / 120 = 4 h^4
    h = EPS**0.2
    quartic = oracles.central_directional(lambda x: x**4, np.array([0.5]), np.ones(1))
    close(quartic, [4 * 0.125], 1e-12)
    quintic = oracles.central_directional(lambda x: x**5, np.array([0.0]), np.ones(1))
    assert quintic[0] == pytest.approx(-4 * h**4, rel=1e-6)


def test_hessian_of_a_quartic():
    # f = (x.Ax/2)^2: grad = (x.Ax/2) 2 Ax ... by hand: f'' = 2 (Ax)(Ax)^T + 2 (x.Ax/2) A
    a = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 3.0]])
    form = X @ a @ X / 2
    expected = 2 * np.outer(a @ X, a @ X) + 2 * form * a
    close(oracles.hessian(lambda z: (z @ a @ z / 2) ** 2, X), expected, DIFFERENCES)


def test_circles_give_the_hessian_without_differences():
    a = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 3.0]])
    form = X @ a @ X / 2
    expected = 2 * np.outer(a @ X, a @ X) + 2 * form * a
    # on the unit circle the quartic is some 10 times larger than at X: its rounding counts
    close(oracles.circle_hessian(lambda z: (z @ a @ z / 2) ** 2, X), expected, 100 * EPS)
    # analytic up to the radius 2 only: the error is of the order of 2^-32
    error = oracles.circle_hessian(lambda z: 1 / (2 - z[0]), np.zeros(1))[0, 0] - 0.25
    assert 0.01 * 2.0**-32 < abs(error) < 4 * 2.0**-32


# --- activations and the network -----------------------------------------------------------------------

PRECISE = {
    "identity": lambda z: z,
    "relu": lambda z: max(z, mpmath.mpf(0)),
    "tanh": mpmath.tanh,
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "softplus": lambda z: mpmath.log(1 + mpmath.exp(z)),
    "gelu": lambda z: z * mpmath.ncdf(z),
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
}


@pytest.mark.parametrize("name", sorted(PRECISE))
def test_activations_and_their_derivatives_against_high_precision(name):
    assert set(PRECISE) == set(oracles.ACTIVATIONS)
    function = oracles.ACTIVATIONS[name]
    with mpmath.workdps(60):
        for z in (-30.0, -3.0, -0.7, 1e-9, 0.2, 1.0, 4.5, 30.0):
            value, slope = PRECISE[name](mpmath.mpf(z)), mpmath.diff(PRECISE[name], mpmath.mpf(z))
            got = function(complex(z, oracles.COMPLEX_STEP))
            # errors relative to max(1, |z|): 1 + erf cancels for very negative z, as in the definition
            assert abs(got.real - float(value)) <= 8 * EPS * max(1.0, abs(z))
            assert abs(got.imag / oracles.COMPLEX_STEP - float(slope)) <= 8 * EPS * max(1.0, abs(z))
            assert abs(function(z) - float(value)) <= 8 * EPS * max(1.0, abs(z))


@pytest.mark.parametrize("name", sorted(PRECISE))
def test_slopes_of_activations_and_their_derivatives_against_high_precision(name):
    assert set(PRECISE) == set(oracles.SLOPES)
    slope = oracles.SLOPES[name]
    with mpmath.workdps(60):
        for z in (-8.0, -3.0, -0.7, 1e-9, 0.2, 1.0, 4.5, 8.0):
            got = complex(slope(complex(z, oracles.COMPLEX_STEP)))
            first, second = (mpmath.diff(PRECISE[name], mpmath.mpf(z), n) for n in (1, 2))
            assert abs(got.real - float(first)) <= 16 * EPS * max(1.0, abs(z))
            assert abs(got.imag / oracles.COMPLEX_STEP - float(second)) <= 16 * EPS * max(1.0, abs(z)) ** 2


def test_relu_has_slope_zero_at_zero():
    assert oracles.complex_step_gradient(lambda z: oracles.ACTIVATIONS["relu"](z[0]), np.zeros(1)) == [0.0]


def test_a_network_by_hand():
    # 2-2-1: s_1 = (1*2 + 2*3 + 0.5, -1*2 + 0*3 + 1) = (8.5, -1), relu -> (8.5, 0), f = 3*8.5 + 4*0 - 1
    theta = np.array([1.0, 2.0, 0.5, -1.0, 0.0, 1.0, 3.0, 4.0, -1.0])
    x = np.array([[2.0, 3.0]])
    assert oracles.mlp_outputs(theta, x, (2, 2, 1), "relu") == [[24.5]]
    # without bias: s_1 = (8, -2), f = 3 * 8
    bare = np.array([1.0, 2.0, -1.0, 0.0, 3.0, 4.0])
    assert oracles.mlp_outputs(bare, x, (2, 2, 1), "relu", bias=False) == [[24.0]]
    # own scales 10 and 0.5 multiply the inputs, not the biases: s_1 = (80.5, -19), f = 0.5 * 3 * 80.5 - 1
    assert oracles.mlp_outputs(theta, x, (2, 2, 1), "relu", scales=(10, 0.5)) == [[119.75]]
    # a frozen first layer: theta holds the second one only
    fixed = {0: theta[:6].reshape(2, 3)}
    assert oracles.mlp_outputs(theta[6:], x, (2, 2, 1), "relu", frozen=fixed) == [[24.5]]
    with pytest.raises(ValueError, match="theta has 9 entries, the layers take 3"):
        oracles.mlp_outputs(theta, x, (2, 2, 1), "relu", frozen=fixed)


def test_ntk_scales_are_the_fan_in_without_bias():
    assert oracles.layer_scales((4, 9, 2), "ntk") == [0.5, 1 / 3]
    assert oracles.layer_scales((4, 9, 2)) == [1.0, 1.0]


# --- likelihoods ---------------------------------------------------------------------------------------

F = np.array([0.4, -1.1, 2.0])
CASES = {
    "gaussian": (np.array([1.0, 0.0, -0.5]), 0.5),
    "categorical": (2, 1.0),
    "bernoulli": (np.array([1.0, 0.0, 1.0]), 1.0),
    "poisson": (np.array([3.0, 0.0, 7.0]), 1.0),
}


def log_density(likelihood, f, y, variance):
    """Log densities from the textbooks, without what is constant in f, in high precision."""
    f = [mpmath.mpf(v) for v in f]
    if likelihood == "gaussian":
        return sum(-((a - b) ** 2) / (2 * variance) for a, b in zip(f, y, strict=True))
    if likelihood == "categorical":
        return mpmath.log(mpmath.exp(f[y]) / sum(mpmath.exp(a) for a in f))
    if likelihood == "bernoulli":
        means = [1 / (1 + mpmath.exp(-a)) for a in f]
        return sum(mpmath.log(m if b else 1 - m) for m, b in zip(means, y, strict=True))
    return sum(b * a - mpmath.exp(a) for a, b in zip(f, y, strict=True))


@pytest.mark.parametrize("likelihood", sorted(CASES))
def test_losses_are_negative_log_densities(likelihood):
    y, variance = CASES[likelihood]
    with mpmath.workdps(50):
        expected = -float(log_density(likelihood, F, y, variance))
    assert oracles.example_loss(likelihood, F, y, variance) == pytest.approx(expected, rel=8 * EPS)
    twice = oracles.mean_loss(likelihood, np.stack([F, F]), [y, y], variance)
    assert twice == pytest.approx(expected, rel=8 * EPS)  # a mean over examples, not a sum


SLOPES = {
    # grad_f l and Om from the table of the conventions, by plain formulas
    "gaussian": (lambda f, y: (f - y) / 0.5, lambda f: np.eye(3) / 0.5),
    "categorical": (
        lambda f, y: np.exp(f) / np.exp(f).sum() - np.eye(3)[y],
        lambda f: (
            np.diag(np.exp(f) / np.exp(f).sum()) - np.outer(np.exp(f), np.exp(f)) / np.exp(f).sum() ** 2
        ),
    ),
    "bernoulli": (
        lambda f, y: 1 / (1 + np.exp(-f)) - y,
        lambda f: np.diag(1 / (1 + np.exp(-f)) / (1 + np.exp(f))),
    ),
    "poisson": (lambda f, y: np.exp(f) - y, lambda f: np.diag(np.exp(f))),
}


@pytest.mark.parametrize("likelihood", sorted(CASES))
def test_slopes_and_output_fishers_are_those_of_the_table(likelihood):
    y, variance = CASES[likelihood]
    slope, omega = SLOPES[likelihood]
    close(oracles.loss_slope(likelihood, F, y, variance), slope(F, y), 16 * EPS)
    close(oracles.output_fisher(likelihood, F, variance), omega(F), 16 * EPS)
    # output Fisher = output Hessian of the loss, for every label
    loss = oracles.hessian(lambda z: oracles.example_loss(likelihood, z, y, variance), F)
    close(loss, omega(F), DIFFERENCES)


@pytest.mark.parametrize("likelihood", sorted(CASES))
def test_mean_minus_label_is_the_slope_of_the_loss_and_its_derivative_the_curvature(likelihood):
    y, variance = CASES[likelihood]

    def slope(f):
        return oracles.mean_minus_label(likelihood, f, y, variance)

    close(slope(F), oracles.loss_slope(likelihood, F, y, variance), 16 * EPS)
    curvature = oracles.circle_hessian(lambda f: oracles.example_loss(likelihood, f, y, variance), F)
    # values on the circle are up to e times those at F: their rounding counts
    close(oracles.complex_step_jacobian(slope, F), curvature, 100 * EPS)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", sorted(PRECISE))
@pytest.mark.parametrize("likelihood", sorted(CASES))
def test_the_chain_rule_is_the_complex_step_of_the_loss(likelihood, activation, bias):
    label, variance = CASES[likelihood]
    rng = np.random.default_rng(8)
    sizes, y = (2, 4, 3), np.stack([np.asarray(label)] * 2)
    theta, x = rng.normal(size=4 * (2 + bias) + 3 * (4 + bias)), rng.normal(size=(2, 2))
    options = {"bias": bias, "parameterization": "ntk"}

    def loss(z, n):
        outputs = oracles.mlp_outputs(z, x[n : n + 1], sizes, activation, **options)
        return oracles.mean_loss(likelihood, outputs, y[n : n + 1], variance)

    rows = oracles.example_gradients(
        theta, x, y, likelihood, sizes, activation, variance=variance, **options
    )  # fmt: skip
    for n, row in enumerate(rows):
        close(row, oracles.complex_step_gradient(lambda z, n=n: loss(z, n), theta), 100 * EPS)


@pytest.mark.parametrize(("likelihood", "count"), [("categorical", 3), ("bernoulli", 8)])
def test_labels_are_all_there_with_their_probabilities(likelihood, count):
    labels = oracles.labels_with_probabilities(likelihood, F)
    assert len(labels) == count
    assert len({str(y) for y, _ in labels}) == count
    assert sum(p for _, p in labels) == pytest.approx(1.0, abs=8 * EPS)
    for y, p in labels:
        assert p == pytest.approx(math.exp(-oracles.example_loss(likelihood, F, y)), rel=32 * EPS)


@pytest.mark.parametrize(
    "call",
    [
        lambda: oracles.example_loss("cauchy", F, F),
        lambda: oracles.output_mean("cauchy", F),
        lambda: oracles.labels_with_probabilities("poisson", F),
        lambda: oracles.mean_space_observation("categorical", F[None], np.ones((1, 3, 2)), np.ones((1, 3))),
    ],
)
def test_what_has_no_definition_is_refused(call):
    with pytest.raises(ValueError, match="likelihood must"):
        call()


# --- Fisher matrices -----------------------------------------------------------------------------------

SIZES = (3, 4, 3)
THETA = RNG.normal(size=4 * 4 + 3 * 5)
INPUTS = RNG.normal(size=(5, 3))


def network(theta):
    return oracles.mlp_outputs(theta, INPUTS, SIZES, "tanh")


@pytest.fixture(scope="module")
def jacobians():
    return oracles.complex_step_jacobian(network, THETA)


def test_the_jacobian_of_a_network_by_two_differences(jacobians):
    assert jacobians.shape == (5, 3, 31)
    close(oracles.central_jacobian(network, THETA), jacobians, DIFFERENCES)


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli"])
def test_fisher_is_the_second_moment_of_the_score_and_its_mean_is_zero(jacobians, likelihood):
    outputs = network(THETA)
    omegas = np.stack([oracles.output_fisher(likelihood, f) for f in outputs])
    by_definition = oracles.fisher(jacobians, omegas)
    mean, second = oracles.score_moments(likelihood, outputs, jacobians)
    close(second, by_definition, 100 * EPS)
    assert np.abs(mean).max() <= 100 * EPS * np.sqrt(by_definition.max())
    # a planted error: half the probability of a label moved to another is seen
    assert np.abs(oracles.fisher(jacobians, 1.001 * omegas) - second).max() > 1e-4 * np.abs(second).max()


def test_fisher_by_hand():
    # two examples, one output, J = (1, 2) and (0, 3), Om = 2 and 4:
    # half of 2 [[1, 2], [2, 4]] + 4 [[0, 0], [0, 9]]
    jacobian = np.array([[[1.0, 2.0]], [[0.0, 3.0]]])
    expected = [[1.0, 2.0], [2.0, 22.0]]
    assert (oracles.fisher(jacobian, np.array([[[2.0]], [[4.0]]])) == expected).all()


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_kronecker_is_numpys(m, n, p, q):
    rng = np.random.default_rng([m, n, p, q])
    left, right = rng.normal(size=(m, n)), rng.normal(size=(p, q))
    assert (oracles.kronecker(left, right) == np.kron(left, right)).all()


def test_the_nearest_kronecker_product_of_two_orthogonal_ones_is_the_larger():
    rng = np.random.default_rng(7)
    G, A = (M / np.linalg.norm(M) for M in (rng.normal(size=(2, 2)), rng.normal(size=(3, 3))))
    other_G, other_A = np.array([[0, 1], [-1, 0]]) @ G, rng.normal(size=(3, 3))
    other_G = other_G - np.sum(other_G * G) * G
    other_A = other_A - np.sum(other_A * A) * A
    small = np.kron(other_G, other_A)
    small = small / np.linalg.norm(small)
    nearest, values = oracles.nearest_kronecker(3.0 * np.kron(G, A) + 2.0 * small, 2)
    close(nearest, 3.0 * np.kron(G, A), 64 * EPS)
    close(values, [3.0, 2.0, 0.0, 0.0], 64 * EPS)
    with pytest.raises(AssertionError):  # the rearrangement is that of G kron A, outputs first
        close(
            oracles.nearest_kronecker(3.0 * np.kron(A, G) + 2.0 * small, 2)[0], 3.0 * np.kron(A, G), 64 * EPS
        )


@pytest.mark.parametrize("bias", [True, False])
def test_kfac_is_the_fisher_block_for_one_example(bias):
    # for a single example every block of the Fisher is exactly G (x) A
    size = 4 * (3 + bias) + 3 * (4 + bias)
    theta, row = THETA[:size], INPUTS[:1]
    scales = oracles.layer_scales(SIZES, "ntk")
    layers = oracles.layer_matrices(theta, SIZES, bias=bias)
    factors = oracles.kfac_factors(layers, row, "tanh", scales, "categorical", bias=bias)

    def outputs(z):
        return oracles.mlp_outputs(z, row, SIZES, "tanh", bias=bias, parameterization="ntk")

    jacobian = oracles.complex_step_jacobian(outputs, theta)
    omega = oracles.output_fisher("categorical", outputs(theta)[0])[None]
    exact = oracles.fisher(jacobian, omega)
    start = 0
    for (a_factor, g_factor), layer in zip(factors, layers, strict=True):
        block = exact[start : start + layer.size, start : start + layer.size]
        close(oracles.kronecker(g_factor, a_factor), block, 100 * EPS)
        start += layer.size
    assert start == size


def test_kfac_factors_are_means_over_examples():
    layers, scales = oracles.layer_matrices(THETA, SIZES), oracles.layer_scales(SIZES)
    together = oracles.kfac_factors(layers, INPUTS, "tanh", scales, "poisson")
    apart = [oracles.kfac_factors(layers, row[None], "tanh", scales, "poisson") for row in INPUTS]
    for index, (a_factor, g_factor) in enumerate(together):
        close(a_factor, np.mean([one[index][0] for one in apart], axis=0), 16 * EPS)
        close(g_factor, np.mean([one[index][1] for one in apart], axis=0), 16 * EPS)
    assert together[0][0][-1, -1] == pytest.approx(1.0)  # the bias entry of a mean of abar abar^T


# --- Bayes ---------------------------------------------------------------------------------------------


def test_posterior_of_one_parameter_by_hand():
    # prior N(1, 4), two observations 3 and 5 of theta with variance 2:
    # precision 1/4 + 1, mean (1/4 + 4) / 1.25
    mean, covariance = oracles.linear_gaussian_posterior(
        np.ones((2, 1)), np.array([3.0, 5.0]), np.ones(1), np.array([[4.0]]), 2.0
    )
    assert mean[0] == pytest.approx(3.4, rel=4 * EPS)
    assert covariance[0, 0] == pytest.approx(0.8, rel=4 * EPS)


@pytest.fixture
def regression():
    rng = np.random.default_rng(4)
    root = rng.normal(size=(4, 4))
    return rng.normal(size=(7, 4)), rng.normal(size=7), rng.normal(size=4), root @ root.T + np.eye(4), 0.3


def test_posterior_in_high_precision_and_in_float64(regression):
    mean, covariance = oracles.linear_gaussian_posterior(*regression)
    precise_mean, precise_covariance = oracles.linear_gaussian_posterior(*regression, digits=50)
    # conditions of the prior and of the information are below 1e3
    close(mean, precise_mean, 1e3 * 32 * EPS)
    close(covariance, precise_covariance, 1e3 * 32 * EPS)


def test_high_precision_survives_where_float64_does_not():
    # prior variance 1e24 and two nearly equal rows: the information has condition 1e20
    design = np.array([[1.0, 1.0], [1.0, 1.0 + 2**-30]])
    arguments = design, np.array([1.0, 1.0]), np.zeros(2), 1e24 * np.eye(2), 1.0
    mean, covariance = oracles.linear_gaussian_posterior(*arguments, digits=80)
    # by hand: with a flat prior the covariance is (X^T X)^{-1} = adj / det, det = 2^-60
    e = 2.0**-30
    flat = np.array([[1 + (1 + e) ** 2, -(2 + e)], [-(2 + e), 2.0]]) * 2.0**60
    # the prior's precision 1e-24 is 2e-5 of the least eigenvalue, 2^-62
    close(covariance, flat, 1e-4)
    assert covariance[0, 0] < flat[0, 0]
    assert np.abs(mean - [1.0, 0.0]).max() < 1e-4


def test_a_kalman_update_of_a_linear_model_is_the_posterior(regression):
    design, targets, prior_mean, prior_covariance, variance = regression
    expected = oracles.linear_gaussian_posterior(*regression, digits=50)
    updated = oracles.ekf_update(
        prior_mean, prior_covariance, design, targets - design @ prior_mean, variance * np.eye(7)
    )
    for got, want in zip(updated, expected, strict=True):
        close(got, want, 1e3 * 32 * EPS)
    # sequentially, one observation at a time
    mean, covariance = prior_mean, prior_covariance
    for row, target in zip(design, targets, strict=True):
        mean, covariance = oracles.ekf_update(
            mean, covariance, row[None], np.array([target - row @ mean]), np.array([[variance]])
        )
    close(mean, expected[0], 1e3 * 32 * EPS)
    close(covariance, expected[1], 1e3 * 32 * EPS)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "poisson"])
def test_the_observation_in_mean_space_carries_the_fisher_information(jacobians, likelihood):
    outputs = network(THETA)
    y = np.ones_like(outputs)
    variance = 0.5 if likelihood == "gaussian" else 1.0
    rows, innovation, noise = oracles.mean_space_observation(likelihood, outputs, jacobians, y, variance)
    omegas = np.stack([oracles.output_fisher(likelihood, f, variance) for f in outputs])
    # H^T R^{-1} H = N F, and H^T R^{-1} (y - h) = -N g
    close(rows.T @ np.linalg.solve(noise, rows), 5 * oracles.fisher(jacobians, omegas), 1e3 * EPS)
    slopes = [oracles.loss_slope(likelihood, f, label, variance) for f, label in zip(outputs, y, strict=True)]
    gradient = sum(j.T @ s for j, s in zip(jacobians, slopes, strict=True))
    close(rows.T @ np.linalg.solve(noise, innovation), -gradient, 1e3 * EPS)
