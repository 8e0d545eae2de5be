"""Conjugate gradients, with and without a preconditioner, against dense solves."""

from collections.abc import Callable

import array_api_compat.numpy
import numpy as np
import pytest
import scipy.linalg

import grng_ref as gr
from grng_ref.curvature import Curvature
from grng_ref.solvers import SolveResult, solve_conjugate_gradient

STRUCTURES = [
    "kfac",
    "ekfac",
    "kronecker_optimal",
    "tridiagonal_kfac",
    "block_diagonal",
    "unitwise",
    "diagonal",
]
DAMPING = 1e-3


def spd(rng: np.random.Generator, size: int, condition: float) -> np.ndarray:
    q = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return (q * np.geomspace(1.0, 1.0 / condition, size)) @ q.T


def problem_at(seed: int) -> tuple[gr.Problem, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    problem = gr.Problem(gr.MLP((6, 5, 3)), gr.Categorical())
    x, y = rng.standard_normal((40, 6)) * np.geomspace(1.0, 30.0, 6), rng.integers(0, 3, 40)
    return problem, problem.init(seed), x, y


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e5])
def test_solution_is_that_of_a_dense_solve(dtype: str, condition: float) -> None:
    rng = np.random.default_rng(0)
    matrix, v = spd(rng, 30, condition).astype(dtype), rng.standard_normal(30).astype(dtype)
    result = solve_conjugate_gradient(lambda x: matrix @ x, v)
    assert result.status == "converged"
    # a scaled residual of at most 30 bounds the error by 30 n eps cond
    exact = np.linalg.solve(matrix.astype(float), v.astype(float))
    bound = 30 * 30 * np.finfo(dtype).eps * np.linalg.cond(matrix.astype(float))
    assert np.linalg.norm(result.x - exact) <= bound * np.linalg.norm(exact)


def test_as_many_products_as_distinct_eigenvalues() -> None:
    """Three distinct eigenvalues: three products in exact arithmetic, and no restart is needed."""
    rng = np.random.default_rng(1)
    q = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    matrix = (q * np.repeat([1.0, 2.0, 5.0], [7, 7, 6])) @ q.T
    result = solve_conjugate_gradient(lambda x: matrix @ x, rng.standard_normal(20))
    assert result.success
    assert result.iterations == 3


@pytest.mark.parametrize("structure", STRUCTURES)
def test_preconditioned_by_any_structure(structure: str) -> None:
    problem, theta, x, y = problem_at(2)
    full, g = gr.fisher(problem, theta, x), problem.gradient(theta, x, y)
    preconditioner = gr.fisher(problem, theta, x, structure=structure)
    result = gr.solve(full, g, damping=DAMPING, method="cg", preconditioner=preconditioner)
    assert result.success
    assert result.method == "cg"
    dense = full.to_dense() + DAMPING * np.eye(len(g))
    exact = np.linalg.solve(dense, g)
    bound = 30 * len(g) * np.finfo(float).eps * np.linalg.cond(dense)
    assert np.linalg.norm(result.x - exact) <= bound * np.linalg.norm(exact)


class Counter:
    """Counts the Cholesky factorizations and eigendecompositions of NumPy arrays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for module, name in ((scipy.linalg, "cholesky"), (array_api_compat.numpy.linalg, "eigh")):
            monkeypatch.setattr(module, name, self._counted(getattr(module, name)))

    def _counted(self, function: Callable) -> Callable:
        def counted(*args, **options):
            self.count += 1
            return function(*args, **options)

        return counted

    def of(self, call: Callable[[], SolveResult]) -> tuple[int, SolveResult]:
        before = self.count
        result = call()
        return self.count - before, result


@pytest.mark.parametrize("structure", ["full", *STRUCTURES])
@pytest.mark.parametrize("examples", [4, 40])  # 12 and 120 score rows of 53 parameters: Gram form and dense
def test_a_preconditioner_is_factored_once(structure: str, examples: int, monkeypatch) -> None:
    problem, theta, x, y = problem_at(2)
    full, g = gr.fisher(problem, theta, x), problem.gradient(theta, x, y)
    preconditioner = gr.fisher(problem, 0.9 * theta, x[:examples], structure=structure)
    counter = Counter(monkeypatch)

    def helped() -> SolveResult:
        return gr.solve(full, g, damping=DAMPING, method="cg", preconditioner=preconditioner)

    alone, _ = counter.of(lambda: gr.solve(preconditioner, g, damping=DAMPING))
    count, result = counter.of(helped)
    assert result.success
    assert count <= alone
    if alone:  # negative control: the solve of every application by itself
        with monkeypatch.context() as patched:
            patched.setattr(type(preconditioner), "_inverse", Curvature._inverse)
            refactored, result = counter.of(helped)
        assert result.iterations > 2
        assert refactored > 2 * alone


def test_the_exact_inverse_as_preconditioner_needs_one_product() -> None:
    problem, theta, x, y = problem_at(3)
    blocks, g = gr.fisher(problem, theta, x, structure="block_diagonal"), problem.gradient(theta, x, y)
    alone = gr.solve(blocks, g, damping=DAMPING, method="cg")
    helped = gr.solve(blocks, g, damping=DAMPING, method="cg", preconditioner=blocks)
    assert alone.success
    assert helped.success
    assert helped.iterations <= 2 < alone.iterations  # the second one repairs the rounding of the first


def test_a_wrong_preconditioner_costs_products_but_not_the_answer() -> None:
    rng = np.random.default_rng(4)
    matrix, v = spd(rng, 20, 100.0), rng.standard_normal(20)
    wrong = spd(rng, 20, 1e4)
    good = solve_conjugate_gradient(lambda x: matrix @ x, v)
    bad = solve_conjugate_gradient(lambda x: matrix @ x, v, precondition=lambda r: wrong @ r)
    assert good.success
    assert bad.success
    assert bad.iterations > good.iterations


def test_zero_damping_gives_the_minimum_norm_or_refuses() -> None:
    rng = np.random.default_rng(5)
    B = rng.standard_normal((4, 9))
    F = gr.curvature((B,), (np.ones((4, 1, 1)),))  # one unit: the rows of B over sqrt(4)
    inside, outside = B.T @ rng.standard_normal(4), rng.standard_normal(9)
    result = gr.solve(F, inside, damping=0.0, method="cg")
    exact = np.linalg.pinv(B.T @ B / 4) @ inside
    assert result.success
    assert np.linalg.norm(result.x - exact) <= 1e-10 * np.linalg.norm(
        exact
    )  # cond(F)^2 < 1e4, times 30 n eps
    assert gr.solve(F, outside, damping=0.0, method="cg").status == "outside_range"


def test_too_few_iterations_are_a_status() -> None:
    rng = np.random.default_rng(6)
    matrix, v = spd(rng, 40, 1e6), rng.standard_normal(40)
    result = solve_conjugate_gradient(lambda x: matrix @ x, v, max_iterations=3)
    assert result.status == "stagnated"
    assert result.residual > 30.0


def test_planted_error_a_product_that_is_not_symmetric_does_not_pass() -> None:
    rng = np.random.default_rng(7)
    matrix = spd(rng, 30, 1e3)
    matrix[:15, 15:] *= 1.5
    result = solve_conjugate_gradient(lambda x: matrix @ x, rng.standard_normal(30), max_iterations=100)
    assert not result.success


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "cg", "preconditioner": "kfac"}, TypeError, "preconditioner must be a Curvature"),
        ({"method": "cholesky", "preconditioner": None}, ValueError, "method='cg'"),
        ({"method": "cg", "preconditioner": None, "damping": 0.0}, ValueError, "damping > 0"),
    ],
)
def test_bad_preconditioners_are_refused(options: dict, error: type, words: str) -> None:
    problem, theta, x, _ = problem_at(8)
    full = gr.fisher(problem, theta, x)
    given = {"damping": DAMPING, **options}
    if given["preconditioner"] is None:
        given["preconditioner"] = gr.fisher(problem, theta, x, structure="diagonal")
    with pytest.raises(error, match=words):
        gr.solve(full, theta, **given)
