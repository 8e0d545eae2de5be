"""One Kalman step in balls against the covariance form in 120 digits, exact posteriors, and an integral.

The reference has the textbook's gradient and Fisher at the outputs (`test_outputs` derives them from
densities) and never forms an information matrix: ``P = (I + P^- A)^{-1} P^-``, ``log det(I + P^- A)``.
"""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

import flint
import mpmath
import numpy as np
import pytest
from support import Backend

from grng_ref.arrays import NumericalError
from grng_ref.certified import Enclosure, exact_log_marginal_likelihood, exact_posterior, kalman_enclosure

DIGITS = 120
VARIANCE = 0.3
LIKELIHOODS = ("gaussian", "categorical", "bernoulli", "poisson")
N, K, P = 4, 3, 5

# --- the reference ------------------------------------------------------------------------------------------


def example(likelihood: str, *, saturation: float = 1.0, dtype: str = "float64") -> dict[str, Any]:
    rng = np.random.default_rng(3)
    f = saturation * rng.standard_normal((N, K))
    if likelihood == "poisson":
        f = np.minimum(f, 3.0)
    y = {
        "gaussian": rng.standard_normal((N, K)),
        "categorical": np.argmax(f, axis=1),
        "bernoulli": (f > 0).astype(float),
        "poisson": rng.integers(0, 6, (N, K)).astype(float),
    }[likelihood]
    H = rng.standard_normal((P, P))
    root = rng.standard_normal((P, P))
    arrays = {
        "mean": rng.standard_normal(P),
        "f": f,
        "jacobian": rng.standard_normal((N, K, P)),
        "hessian": H + H.T,
        "prior": np.rint(8 * (root @ root.T + np.eye(P))) / 8,  # exactly symmetric
    }
    arrays = {name: value.astype(dtype) for name, value in arrays.items()}
    return arrays | {"y": y if likelihood == "categorical" else y.astype(dtype)}


def matrix(values: np.ndarray) -> mpmath.matrix:
    return mpmath.matrix(np.asarray(values, dtype=float).tolist())


def output_terms(likelihood: str, f: mpmath.matrix, y: Any) -> tuple[Any, mpmath.matrix, mpmath.matrix]:
    """Log density, gradient of the loss and Fisher of one example."""
    s2 = mpmath.mpf(VARIANCE)
    size = len(f)
    if likelihood == "categorical":
        total = sum(mpmath.exp(value) for value in f)
        p = mpmath.matrix([mpmath.exp(value) / total for value in f])
        gradient = p.copy()
        gradient[int(y)] -= 1
        return mpmath.log(p[int(y)]), gradient, mpmath.diag(list(p)) - p * p.T
    y = matrix(y)
    if likelihood == "gaussian":
        square = sum((a - b) ** 2 for a, b in zip(f, y, strict=True))
        log_density = -size * mpmath.log(2 * mpmath.pi * s2) / 2 - square / (2 * s2)
        return log_density, (f - y) / s2, mpmath.eye(size) / s2
    if likelihood == "bernoulli":
        p = mpmath.matrix([1 / (1 + mpmath.exp(-value)) for value in f])
        log_density = sum(mpmath.log(q if t == 1 else 1 - q) for q, t in zip(p, y, strict=True))
        return log_density, p - y, mpmath.diag([q * (1 - q) for q in p])
    rate = mpmath.matrix([mpmath.exp(value) for value in f])
    terms = zip(f, rate, y, strict=True)
    log_density = sum(t * value - r - mpmath.log(mpmath.factorial(t)) for value, r, t in terms)
    return log_density, rate - y, mpmath.diag(list(rate))


def reference(
    case: dict, likelihood: str, covariance, *, rho=0.0, regularization="implicit"
) -> dict[str, Any]:
    """What `kalman_enclosure` encloses, and what goes into it, as mpmath numbers."""
    G, A, log_density = mpmath.zeros(P, 1), mpmath.zeros(P, P), mpmath.mpf(0)
    for f, J, y in zip(case["f"], case["jacobian"], case["y"], strict=True):
        density, gradient, fisher = output_terms(likelihood, matrix(f), y)
        log_density += density
        G += matrix(J).T * gradient
        A += matrix(J).T * fisher * matrix(J)
    data_only = (mpmath.eye(P) + covariance * A) ** -1 * covariance
    explained, determinant = (G.T * data_only * G)[0], mpmath.det(mpmath.eye(P) + covariance * A)
    g, H, rho = G / N, matrix(case["hessian"]), mpmath.mpf(rho)
    pull = G
    if regularization == "implicit":
        added = N * rho * (g.T * g)[0] * mpmath.eye(P)
    else:
        added, pull = N * rho * H * H, G + N * rho * H * g
    posterior = (mpmath.eye(P) + covariance * (A + added)) ** -1 * covariance
    step = -posterior * pull
    return {
        "gradient": g,
        "covariance": posterior,
        "information": covariance**-1 + A + added,
        "step": step,
        "mean": matrix(case["mean"]) + step,
        "log_marginal_likelihood": mpmath.matrix([log_density + (explained - mpmath.log(determinant)) / 2]),
        "log_density": log_density,
        "A": A,
        "G": G,
    }


def rational(value: mpmath.mpf) -> Fraction:
    return Fraction(*map(int, mpmath.libmp.to_rational(value._mpf_)))


def holds(enclosure: Enclosure, truth: mpmath.matrix) -> bool:
    middle, radius = enclosure.midpoint.ravel(), enclosure.radius.ravel()
    triples = zip(truth, middle, radius, strict=True)
    return all(abs(rational(t) - Fraction(float(m))) <= Fraction(float(r)) for t, m, r in triples)


def narrow(enclosure: Enclosure) -> bool:
    """At 256 bits nothing but the rounding to float64 is left."""
    return bool(np.all(enclosure.radius <= 2.0**-53 * (1 + 1e-9) * np.abs(enclosure.midpoint)))


RESULTS = ("gradient", "information", "covariance", "step", "mean", "log_marginal_likelihood")
OPTIONS = [(0.0, "implicit"), (0.7, "implicit"), (0.7, "explicit")]


def arguments(case: dict, likelihood: str) -> dict[str, Any]:
    given = {name: case[name] for name in ("mean", "f", "jacobian", "y", "hessian")}
    return given | {"likelihood": likelihood, "variance": VARIANCE if likelihood == "gaussian" else None}


# --- against the reference ----------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(("rho", "regularization"), OPTIONS)
@pytest.mark.parametrize("saturation", [1.0, 40.0])
def test_results_are_enclosed(likelihood, rho, regularization, saturation):
    case = example(likelihood, saturation=saturation)
    options = {"rho": rho, "regularization": regularization}
    result = kalman_enclosure(**arguments(case, likelihood), prior_covariance=case["prior"], **options)
    with mpmath.workdps(DIGITS):
        truth = reference(case, likelihood, matrix(case["prior"]), **options)
        for name in RESULTS:
            assert holds(getattr(result, name), truth[name]), name
            assert narrow(getattr(result, name)), name
            shrunk = Enclosure(getattr(result, name).midpoint, np.zeros(getattr(result, name).shape))
            assert not holds(shrunk, truth[name]), name
    assert result.mean.shape == result.step.shape == result.gradient.shape == (P,)
    assert result.covariance.shape == result.information.shape == (P, P)
    assert result.log_marginal_likelihood.shape == ()


@pytest.mark.parametrize("form", ["prior_variance", "prior_information", "prior_covariance"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_forms_of_the_prior(form, dtype):
    case = example("bernoulli", dtype=dtype)
    given = {"prior_variance": np.float32(0.1)}.get(form, case["prior"])
    result = kalman_enclosure(**arguments(case, "bernoulli"), **{form: given}, rho=Fraction(1, 4))
    with mpmath.workdps(DIGITS):
        covariance = {
            "prior_variance": mpmath.mpf(float(np.float32(0.1))) * mpmath.eye(P),
            "prior_information": matrix(case["prior"]) ** -1,
            "prior_covariance": matrix(case["prior"]),
        }[form]
        truth = reference(case, "bernoulli", covariance, rho=0.25)
        assert [name for name in RESULTS if not holds(getattr(result, name), truth[name])] == []


def test_planted_errors_lie_outside():
    """What people get wrong: sums and means, the regularization, the information of before the batch."""
    case = example("poisson")
    options = {"rho": 0.7, "regularization": "explicit"}
    result = kalman_enclosure(**arguments(case, "poisson"), prior_covariance=case["prior"], **options)
    implicit = kalman_enclosure(**arguments(case, "poisson"), prior_covariance=case["prior"], rho=0.7)
    with mpmath.workdps(DIGITS):
        prior = matrix(case["prior"])
        truth = reference(case, "poisson", prior, **options)
        A, G, H, rho = truth["A"], truth["G"], matrix(case["hessian"]), mpmath.mpf(0.7)
        square = (truth["gradient"].T * truth["gradient"])[0]
        information = {
            "mean of the examples": prior**-1 + A / N + rho * H * H,
            "rho without N": prior**-1 + A + rho * H * H,
            "H for its square": prior**-1 + A + N * rho * H,
            "no regularization": prior**-1 + A,
        }
        steps = {
            "g without rho H g": -truth["covariance"] * G,
            "gradient of the mean loss": truth["step"] / N,
            "information of before": -prior * (G + rho * H * G),
        }
        log_density = truth["log_density"]
        data_only = (prior**-1 + A) ** -1
        volume = mpmath.log(mpmath.det(mpmath.eye(P) + prior * A)) / 2
        evidence = {
            "without log y!": truth["log_marginal_likelihood"][0]
            + sum(mpmath.log(mpmath.factorial(mpmath.mpf(float(t)))) for t in case["y"].ravel()),
            "prior for posterior": log_density + (G.T * prior * G)[0] / 2 - volume,
            "regularization as data": log_density
            + (G.T * truth["covariance"] * G)[0] / 2
            - mpmath.log(mpmath.det(prior * truth["information"])) / 2,
            "volume twice": log_density + (G.T * data_only * G)[0] / 2 - 2 * volume,
        }
        for name, wrong in information.items():
            assert not holds(result.information, wrong), name
        for name, wrong in steps.items():
            assert not holds(result.step, wrong), name
        for name, wrong in evidence.items():
            assert not holds(result.log_marginal_likelihood, mpmath.matrix([wrong])), name
        wrong = prior**-1 + A + N * rho * mpmath.sqrt(square) * mpmath.eye(P)
        assert not holds(implicit.information, wrong), "the norm for its square"
    # the regularization is no data
    assert np.array_equal(implicit.log_marginal_likelihood.midpoint, result.log_marginal_likelihood.midpoint)


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "gaussian"])
def test_evidence_is_the_integral_that_it_stands_for(likelihood):
    """One parameter: prior times ``exp`` of the expansion of log p at mean^-, integrated numerically."""
    f, y, slopes = np.array([[0.5], [-1.0]]), np.array([[1.0], [0.0]]), np.array([[[2.0]], [[-0.5]]])
    result = kalman_enclosure(
        np.array([0.25]),
        f,
        slopes,
        y,
        likelihood=likelihood,
        variance=VARIANCE if likelihood == "gaussian" else None,
        prior_variance=1.5,
        rho=3.0,
    )
    with mpmath.workdps(40):
        pieces = [output_terms(likelihood, matrix(a), b) for a, b in zip(f, y, strict=True)]

        def integrand(move: mpmath.mpf) -> mpmath.mpf:
            total = -(move**2) / 3 - mpmath.log(3 * mpmath.pi) / 2
            for (density, gradient, fisher), slope in zip(pieces, slopes.ravel(), strict=True):
                change = mpmath.mpf(float(slope)) * move
                total += density - gradient[0] * change - fisher[0] * change**2 / 2
            return mpmath.exp(total)

        integral = mpmath.quad(integrand, list(range(-30, 31, 2)))
        expected = float(mpmath.log(integral))
    assert result.log_marginal_likelihood.relative_error_bound(expected) < 1e-15


@pytest.mark.parametrize("ratio", [1, 10**12, 10**18])
def test_gaussian_outputs_give_the_exact_posterior(ratio):
    """The two references of this room agree: balls around exact rationals, at every prior-to-noise ratio."""
    rng = np.random.default_rng(ratio % 89)
    mean, rows = np.rint(8 * rng.standard_normal(3)) / 8, np.rint(8 * rng.standard_normal((9, 3))) / 8
    targets = rng.standard_normal(9)
    f = (rows @ mean)[:, None]  # exact, with entries that are multiples of 1/8
    R = Fraction(1, 3)
    given = {"noise_variance": R, "prior_variance": R * ratio}
    exact = exact_posterior(mean, rows, targets, **given)
    result = kalman_enclosure(
        mean,
        f,
        rows[:, None, :],
        targets[:, None],
        likelihood="gaussian",
        variance=R,
        prior_variance=R * ratio,
    )
    for name in ("mean", "information", "covariance"):
        truth = [Fraction(int(q.p), int(q.q)) for q in getattr(exact, name).entries()]
        ball = getattr(result, name)
        triples = zip(truth, ball.midpoint.ravel(), ball.radius.ravel(), strict=True)
        assert all(abs(t - Fraction(float(m))) <= Fraction(float(r)) for t, m, r in triples), name
        assert ball.contains(exact.rounded(name)), name  # both are next to the truth
    evidence = exact_log_marginal_likelihood(mean, rows, targets, **given)
    ball = result.log_marginal_likelihood
    assert abs(float(evidence.midpoint - ball.midpoint)) <= float(evidence.radius + ball.radius)
    # planted: the constants of a Gaussian likelihood left out
    assert not ball.contains(float(ball.midpoint + 4.5 * np.log(2 * np.pi * float(R))))


def test_saturated_softmax_keeps_narrow_balls():
    """f = (70, 0, 1, -1): probabilities of 1e-31, to every digit of theirs, and far below.

    The marginal likelihood is next to 1 then, and its logarithm has as many digits as the determinants have
    more than the probabilities have zeros: at exp(-600), 256 bits are none.
    """
    for top, bits in ((70.0, 256), (600.0, 1024)):
        f = np.array([[top, 0.0, 1.0, -1.0]])
        given = {"likelihood": "categorical", "prior_variance": 4, "precision": bits}
        result = kalman_enclosure(np.zeros(4), f, np.eye(4)[None], np.array([0]), **given)
        with mpmath.workdps(700):
            weights = [mpmath.exp(mpmath.mpf(float(value)) - top) for value in f[0]]
            p = [w / sum(weights) for w in weights]
            assert holds(result.gradient, mpmath.matrix([p[0] - 1, *p[1:]]))
        assert 0.0 < result.gradient.midpoint[3] < 1e-30
        for ball in (result.gradient, result.step, result.log_marginal_likelihood):
            assert narrow(ball)
            assert np.all(np.abs(ball.midpoint) > 0.0)


# --- precision ----------------------------------------------------------------------------------------------


def test_low_precision_is_wide_but_never_wrong():
    case = example("categorical", saturation=10.0)
    radii = []
    with mpmath.workdps(DIGITS):
        truth = reference(case, "categorical", matrix(case["prior"]))
        for bits in (53, 64, 128):
            result = kalman_enclosure(
                **arguments(case, "categorical"), prior_covariance=case["prior"], precision=bits
            )
            assert [name for name in RESULTS if not holds(getattr(result, name), truth[name])] == []
            radii.append(float(np.max(result.covariance.radius)))
    assert radii[0] > 10 * radii[1] > 10 * radii[2]


def ill_conditioned(size: int) -> np.ndarray:
    """Positive definite, condition number about 1e16 at 12: a Hilbert matrix scaled to integers."""
    scale = np.lcm.reduce(np.arange(1, 2 * size, dtype=object))
    return np.array([[float(scale // (i + j + 1)) for j in range(size)] for i in range(size)])


@pytest.mark.parametrize("form", ["prior_information", "prior_covariance"])
def test_too_low_a_precision_is_an_error(form):
    size = 12
    given = {
        "mean": np.zeros(size),
        "f": np.zeros((1, 1)),
        "jacobian": np.zeros((1, 1, size)),
        "y": np.zeros((1, 1)),
        "likelihood": "gaussian",
        form: ill_conditioned(size),
    }
    with pytest.raises(NumericalError, match=f"{form} .*raise precision"):
        kalman_enclosure(**given, precision=53)
    result = kalman_enclosure(**given, precision=512)
    exact = exact_posterior(
        np.zeros(size), np.zeros((1, size)), np.zeros(1), noise_variance=1, **{form: given[form]}
    )
    assert result.covariance.contains(exact.rounded("covariance"))
    assert result.covariance.relative_error_bound(exact.rounded("covariance")) <= 1.2e-16


def test_precision_of_the_caller_is_untouched_and_irrelevant():
    case = example("gaussian")
    call = arguments(case, "gaussian") | {"prior_covariance": case["prior"]}
    expected = kalman_enclosure(**call)
    with flint.ctx.workprec(77):
        again = kalman_enclosure(**call)
        assert flint.ctx.prec == 77
    assert np.array_equal(again.covariance.midpoint, expected.covariance.midpoint)
    assert np.array_equal(again.covariance.radius, expected.covariance.radius)


def test_threads_get_what_they_ask_for():
    case = example("categorical")
    call = arguments(case, "categorical") | {"prior_covariance": case["prior"]}
    expected = {bits: kalman_enclosure(**call, precision=bits).covariance.radius for bits in (53, 256)}
    wrong = []

    def work(bits: int) -> None:
        for _ in range(20):
            radius = kalman_enclosure(**call, precision=bits).covariance.radius
            wrong.extend([bits] if not np.array_equal(radius, expected[bits]) else [])

    threads = [threading.Thread(target=work, args=(bits,)) for bits in (53, 256, 53, 256)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["categorical", "poisson"])
def test_every_backend(likelihood, backend: Backend):
    case = example(likelihood, dtype=backend.dtype)
    here = kalman_enclosure(
        **arguments(case, likelihood), prior_information=case["prior"], rho=0.5, regularization="explicit"
    )
    moved = {name: backend.asarray(value) for name, value in case.items()}
    there = kalman_enclosure(
        **arguments(moved, likelihood), prior_information=moved["prior"], rho=0.5, regularization="explicit"
    )
    for name in RESULTS:
        assert np.array_equal(getattr(here, name).midpoint, getattr(there, name).midpoint)
        assert np.array_equal(getattr(here, name).radius, getattr(there, name).radius)
    rounded = here.covariance.midpoint.astype(backend.dtype)
    bound = there.covariance.relative_error_bound(backend.asarray(rounded))
    assert 0.0 < bound <= 1.1 * np.finfo(backend.dtype).eps


def test_results_beyond_float64():
    given = {"mean": np.zeros(1), "jacobian": np.ones((1, 1, 1)), "y": np.zeros((1, 1))}
    for log_rate in (1000.0, 1e300):
        with pytest.raises(NumericalError, match=r"leaves the range of float64|raise precision, unless"):
            kalman_enclosure(**given, f=np.full((1, 1), log_rate), likelihood="poisson", prior_variance=1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mean": np.ones((5, 1))}, ValueError, r"mean must have shape \(any,\)"),
        ({"f": np.ones(4)}, ValueError, r"f must have shape \(any, any\)"),
        ({"f": np.full((4, 3), np.inf)}, ValueError, "f must be finite"),
        ({"jacobian": np.ones((4, 3, 4))}, ValueError, r"jacobian must have shape \(4, 3, 5\)"),
        ({"y": np.zeros(4)}, TypeError, "y must have an integer dtype"),
        ({"likelihood": "softmax"}, ValueError, "likelihood must be one of"),
        ({"likelihood": None}, ValueError, "likelihood must be one of"),
        ({"variance": 1.0}, ValueError, "variance must be None"),
        ({"prior_variance": None}, ValueError, "exactly one of prior_variance, .* got none"),
        ({"prior_covariance": np.eye(5)}, ValueError, "got prior_variance and prior_covariance"),
        (
            {"prior_variance": None, "prior_information": -np.eye(5)},
            ValueError,
            "prior_information must be positive definite",
        ),
        (
            {"prior_variance": None, "prior_covariance": np.ones((5, 5))},
            ValueError,
            "prior_covariance must be positive definite",
        ),
        ({"rho": -0.1}, ValueError, "rho must be a finite number >= 0"),
        ({"regularization": "both"}, ValueError, "regularization must be one of 'implicit', 'explicit'"),
        ({"rho": 1, "regularization": "explicit", "hessian": None}, ValueError, "hessian must be given"),
        ({"hessian": np.triu(np.ones((5, 5)))}, ValueError, "hessian must equal its transpose exactly"),
        ({"precision": 32}, ValueError, "precision must be an integer >= 53, got 32"),
    ],
)
def test_bad_arguments(change, error, message):
    good = arguments(example("categorical"), "categorical") | {"prior_variance": 1.0}
    kalman_enclosure(**good)
    before = flint.ctx.prec
    with pytest.raises(error, match=message):
        kalman_enclosure(**(good | change))
    assert flint.ctx.prec == before
