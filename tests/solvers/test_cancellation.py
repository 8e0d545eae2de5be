"""Right-hand sides that are sums of cancelling terms, v = B^T c: near a minimum every gradient is one.

v carries the roundoff of its terms, of the size eps |B| |c|, which may exceed v itself. With c given a solver
must neither chase that roundoff (it would divide it by a tiny damping) nor call the side unsolvable.
"""

import mpmath
import numpy as np
import pytest

import grng_ref as gr
from grng_ref.curvature import STRUCTURES, DenseRows, FullFisher
from grng_ref.curvature.kfac import damped_factors
from grng_ref.solvers import newton_schulz_inverse

ETA = {"float64": 1e-15, "float32": 1e-6}


def conflicting_labels(dtype: str) -> tuple[gr.Problem, np.ndarray, np.ndarray, np.ndarray]:
    """Every input twice with different labels: at the minimum the gradient vanishes, not the coefficients."""
    rng = np.random.default_rng(5)
    x = np.repeat(rng.standard_normal((3, 3)), 2, axis=0).astype(dtype)
    y = rng.standard_normal((6, 1)).astype(dtype)
    problem = gr.Problem(gr.MLP((3, 8, 1)), gr.Gaussian())
    return problem, problem.init(0, dtype=dtype), x, y


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("damping", [0.0, 1e-33, 1e-20, 1e-3])
def test_two_equal_rows_with_opposite_coefficients(dtype: str, damping: float) -> None:
    B = np.array([[0.1, 0.3], [0.1, 0.3]], dtype=dtype)
    c = np.array([1.0, -1.0 + ETA[dtype]], dtype=dtype)
    if dtype == "float32" and damping == 1e-33:
        pytest.skip("a denormal square root in float32 is no damping")
    x = gr.natural_direction(B, B.T @ c, damping=damping, coefficients=c)
    with mpmath.workdps(60):
        rows = mpmath.matrix(B.astype(float).tolist())
        dual = mpmath.matrix(c.astype(float).tolist())
        # rank one: B^T (B B^T + a I)^{-1} c = b (c_1 + c_2) / (2 |b|^2 + a)
        size = 2 * (rows[0, 0] ** 2 + rows[0, 1] ** 2) + mpmath.mpf(damping)
        exact = [float(rows[0, i] * (dual[0] + dual[1]) / size) for i in range(2)]
    # |B| |c| eps / |F| bounds what the roundoff of v can do to the part of x in the row space
    bound = 32 * float(np.finfo(dtype).eps) * np.linalg.norm(c) / np.linalg.norm(B)
    assert np.linalg.norm(x - np.array(exact)) <= bound


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("structure", ["full", "block_diagonal", "kfac"])
def test_ring_without_damping_stays_at_its_minimum(dtype: str, structure: str) -> None:
    """40 steps with lr 1 and lam 0: the loss falls and does not come back, and no solve fails."""
    problem, theta, x, y = conflicting_labels(dtype)
    optimizer = gr.ring(problem, lr=1.0, rho=1.0, structure=structure)
    state, losses = optimizer.init(theta), []
    for _ in range(40):
        theta, state, info = optimizer.step(theta, state, x, y)
        losses.append(info.loss)
    assert max(losses[20:]) <= min(losses) * 1.01


@pytest.mark.parametrize("structure", ["full", "block_diagonal"])
def test_undamped_ngd_reaches_the_minimum_of_softmax_regression(structure: str) -> None:
    rng = np.random.default_rng(0)
    problem = gr.Problem(gr.MLP((3, 3)), gr.Categorical())
    x, y = rng.standard_normal((30, 3)), rng.integers(0, 3, 30)
    theta = problem.init(0)
    optimizer = gr.ngd(problem, lr=1.0, structure=structure)
    state = optimizer.init(theta)
    for _ in range(30):
        theta, state, info = optimizer.step(theta, state, x, y)
    # the roundoff of a mean of 30 terms of order one
    assert info.gradient_norm <= 32 * np.finfo(float).eps


def test_zero_gradient_with_coefficients_has_the_zero_direction() -> None:
    B, c = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), np.array([0.1, -0.1])
    result = gr.solve(FullFisher(DenseRows(B)), np.zeros(3), damping=0.0, coefficients=c)
    assert result.success
    assert np.linalg.norm(result.x) <= 1e-16  # c_1 + c_2 is zero up to one rounding of 0.1


@pytest.mark.parametrize("method", ["gram", "eigh"])
def test_a_large_solution_does_not_hide_what_is_outside_the_range(method: str) -> None:
    """The tiny eigenvalue makes |x| so large that the scaled residual alone sees nothing."""
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    B = np.sqrt([1.0, 3e-14])[:, None] * q.T[:2]
    result = gr.solve(FullFisher(DenseRows(B)), q[:, 1] + q[:, 2], damping=0.0, method=method)
    assert result.status == "outside_range"
    assert result.residual < 30.0  # the check above is not the residual's


def test_kfac_newton_schulz_refines_each_factor() -> None:
    """Damping 1e-13: the inverses are right to about 1e-3, the solution to the condition of a factor.

    The residual of an inverse ends near eps cond^2 times what the BLAS at hand makes of it: 1e-3 to 2e-3 at
    this condition of 2e7. At 1e-14 it is ten times more, and with some kernels it exceeds the 0.011 above
    which the solve is refused.
    """
    rng = np.random.default_rng(0)
    a, g, v = rng.standard_normal((2, 4)), rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    options = {"damping": 1e-13, "damping_kind": "factored"}
    x, reference = (
        gr.kronecker_solve(a.T @ a, g.T @ g, v, **options, method=method)
        for method in ("newton_schulz", "cholesky")
    )
    # per factor condition 2e7: each is solved to 32 eps 2e7, whatever the condition of the product
    allowed = 2e7 * 32 * np.finfo(float).eps * np.linalg.norm(reference)
    assert np.linalg.norm(x - reference) <= allowed
    A, G = damped_factors(a.T @ a, g.T @ g, options["damping"])
    unrefined = newton_schulz_inverse(G).inverse @ v @ newton_schulz_inverse(A).inverse
    assert np.linalg.norm(unrefined - reference) > 10 * allowed  # negative control


@pytest.mark.parametrize("damping", [1e-16, 1e-20, 1e-30])
def test_kfac_newton_schulz_does_not_pass_a_singular_factor(damping: float) -> None:
    rng = np.random.default_rng(0)
    a, g = rng.standard_normal((2, 4)), rng.standard_normal((2, 3))
    with pytest.raises(gr.NumericalError) as caught:
        gr.kronecker_solve(
            a.T @ a,
            g.T @ g,
            rng.standard_normal((3, 4)),
            damping=damping,
            damping_kind="factored",
            method="newton_schulz",
        )
    assert caught.value.result.status == "stagnated"


def bogus() -> tuple[gr.Problem, np.ndarray, np.ndarray, np.ndarray]:
    problem = gr.Problem(gr.MLP((4, 5, 3)), gr.Categorical())
    rng = np.random.default_rng(0)
    theta = problem.init(0)
    return problem, theta, rng.standard_normal((6, 4)), rng.standard_normal(problem.num_parameters)


@pytest.mark.parametrize("method", ["auto", "gram", "eigh", "cg"])
@pytest.mark.parametrize("damping", [0.0, 0.1])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e30])
def test_the_full_fisher_refuses_coefficients_of_another_vector(
    method: str, damping: float, size: float
) -> None:
    """They excuse a residual of n eps |B| |c|, which a large enough c makes as large as one likes."""
    problem, theta, x, v = bogus()
    F = gr.fisher(problem, theta, x)
    c = size * np.ones(18)
    with pytest.raises(ValueError, match=r"coefficients must satisfy v = B\^T c"):
        gr.solve(F, v, damping=damping, method=method, coefficients=c)
    with pytest.raises(ValueError, match="coefficients"):
        gr.natural_direction(problem.score_rows(theta, x), v, damping=damping, coefficients=c)
    right = F.rows.rmatvec(c)
    assert gr.solve(F, right, damping=0.1, method=method, coefficients=c).success
    with pytest.raises(ValueError, match="coefficients"):  # wrong in half of its digits
        gr.solve(F, right + 1e-8 * np.linalg.norm(right) * v, damping=0.1, method=method, coefficients=c)


@pytest.mark.parametrize("structure", list(STRUCTURES))
@pytest.mark.parametrize("c", [np.ones((18, 1)), np.float64(1.0) * np.ones(()), np.full(18, np.inf)])
def test_coefficients_are_one_finite_vector_for_every_structure(structure: str, c: np.ndarray) -> None:
    problem, theta, x, v = bogus()
    with pytest.raises(ValueError, match="coefficients"):
        gr.solve(gr.fisher(problem, theta, x, structure=structure), v, damping=0.1, coefficients=c)
    if structure == "full":
        with pytest.raises(ValueError, match="coefficients"):
            gr.solve(gr.fisher(problem, theta, x), v, damping=0.1, method="cg", coefficients=np.ones(7))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("likelihood", ["Categorical", "Bernoulli", "Poisson", "Gaussian"])
def test_a_problems_own_coefficients_are_never_refused(likelihood: str, dtype: str) -> None:
    """Deep and saturated networks too: gradient and score rows round differently."""
    rng = np.random.default_rng(1)
    for sizes, scale, n in (((2, 1), 1.0, 1), ((3, 4, 4, 4, 4, 2), 1.0, 3), ((3, 8, 3), 5.0, 50)):
        problem = gr.Problem(gr.MLP(sizes), getattr(gr, likelihood)())
        theta = (scale * problem.init(2)).astype(dtype)
        x = rng.standard_normal((n, sizes[0])).astype(dtype)
        y = problem.sample(theta, x, rng=3)[0]
        at = problem.linearize(theta, x, y)
        F = gr.curvature(at.activations, at.signals)
        assert gr.solve(F, at.gradient, damping=0.1, coefficients=at.coefficients).success
