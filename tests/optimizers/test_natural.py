"""NGD, RING and RENG steps against the formulas written out in NumPy; draws, schedules, failures."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import LIKELIHOODS, Network
from support import Backend, tolerance

import grng_ref as gr
from grng_ref.curvature import STRUCTURES as CURVATURES

DAMPING, RHO, LR = 0.2, 0.6, 0.7
KINDS = ("expected", "monte_carlo", "empirical")
STRUCTURES = ("full", "block_diagonal", "kfac")


def dense_curvature(problem, theta, x, y, structure, kind, samples) -> np.ndarray:
    """The structure's dense matrix from score rows and loops over layers; tested on its own elsewhere."""
    B = problem.score_rows(theta, x, y, kind=kind, samples=samples)
    F = B.T @ B
    if structure == "full":
        return F
    inputs = problem.activations(theta, x)
    signals = problem.score_signals(theta, x, y, kind=kind, samples=samples)
    dense, start, n = np.zeros_like(F), 0, len(x)
    for a, d in zip(inputs, signals, strict=True):
        stop = start + a.shape[1] * d.shape[2]
        if structure == "block_diagonal":
            dense[start:stop, start:stop] = F[start:stop, start:stop]
        else:
            A = sum(np.outer(row, row) for row in a) / n
            G = sum(rows.T @ rows for rows in d) / n
            dense[start:stop, start:stop] = np.kron(G, A)
        start = stop
    return dense


def formula(algorithm, C, g, H) -> np.ndarray:
    """The step by its formula."""
    eye = np.eye(len(g))
    if algorithm == "ngd":
        return -LR * np.linalg.solve(C + DAMPING * eye, g)
    if algorithm == "ring":
        return -LR * np.linalg.solve(C + (DAMPING + RHO * float(g @ g)) * eye, g)
    return -LR * np.linalg.solve(C + DAMPING * eye, g + RHO * H @ g)


def make(algorithm: str, problem, **options):
    options = {"lr": LR, "damping": DAMPING, **options}
    if algorithm == "ngd":
        return gr.ngd(problem, **options)
    return {"ring": gr.ring, "reng": gr.reng}[algorithm](problem, **{"rho": RHO, **options})


@pytest.mark.parametrize("algorithm", ["ngd", "ring", "reng"])
@pytest.mark.parametrize("structure, kind", list(itertools.product(STRUCTURES, KINDS)))
def test_one_step_is_its_formula(algorithm, structure, kind):
    for likelihood in LIKELIHOODS:
        network = Network("gelu", likelihood, "ntk", num_examples=5)
        problem, theta, x, y = network.problem, network.theta, network.x, network.y
        opt = make(algorithm, problem, structure=structure, kind=kind, num_samples=2)
        g, H = problem.gradient(theta, x, y), problem.hessian(theta, x, y)
        state = opt.init(theta)
        delta, after, info = opt.update(theta, state, x, y)
        C = dense_curvature(problem, theta, x, y, structure, kind, info.samples)
        expected = formula(algorithm, C, g, H)
        condition = (np.linalg.norm(C, 2) + DAMPING) / DAMPING
        size = np.linalg.norm(g) * (1 + RHO * np.linalg.norm(H)) / DAMPING
        np.testing.assert_allclose(delta, expected, rtol=0, atol=tolerance("float64", condition) * size)
        # what the info says
        total = DAMPING + (RHO * float(g @ g) if algorithm == "ring" else 0.0)
        sums = tolerance("float64", terms=theta.size)
        assert info.damping == pytest.approx(total, rel=sums)
        assert info.gradient_norm == pytest.approx(np.linalg.norm(g), rel=sums)
        assert info.step_norm == pytest.approx(np.linalg.norm(delta), rel=sums)
        assert info.loss == float(problem.loss(theta, x, y))
        assert info.step == 0
        assert state.step == 0
        assert after.step == 1
        assert info.solve.status == "converged"
        assert (info.samples is not None) == (kind == "monte_carlo")
        moved, _, _ = opt.step(theta, state, x, y, samples=info.samples)
        np.testing.assert_array_equal(moved, theta + delta)
        # negative controls: the other algorithms' formulas
        for other in {"ngd", "ring", "reng"} - {algorithm}:
            wrong = formula(other, C, g, H)
            assert not np.allclose(delta, wrong, rtol=0, atol=tolerance("float64", condition) * size)


def test_factored_damping_is_another_step():
    network = Network("tanh", "bernoulli", num_examples=5)
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    exact, factored = (
        _delta(make("ngd", problem, structure="kfac", damping_kind=kind), theta, x, y)
        for kind in ("exact", "factored")
    )
    assert not np.allclose(exact, factored, rtol=1e-3)
    default = _delta(make("ngd", problem, structure="kfac"), theta, x, y)
    np.testing.assert_array_equal(default, exact)
    with pytest.raises(ValueError, match="damping_kind"):
        _delta(make("ngd", problem, structure="full", damping_kind="factored"), theta, x, y)


def _delta(opt, theta, x, y):
    return opt.update(theta, opt.init(theta), x, y)[0]


@pytest.mark.parametrize("method", ["gram", "cholesky", "cg", "eigh", "newton_schulz"])
def test_every_method_takes_the_same_step(method):
    network = Network("tanh", "categorical")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    reference = _delta(make("ring", problem), theta, x, y)
    opt = make("ring", problem, method=method)
    delta, _, info = opt.update(theta, opt.init(theta), x, y)
    assert info.solve.method == method
    condition = 1.0 + np.linalg.norm(network.fisher, 2) / info.damping
    limit = tolerance("float64", condition, terms=theta.size)
    np.testing.assert_allclose(delta, reference, rtol=0, atol=limit * np.linalg.norm(reference))


@pytest.mark.parametrize("algorithm", ["ngd", "ring", "reng"])
@pytest.mark.parametrize("structure", ["full", "block_diagonal", "kfac"])
def test_conjugate_gradients_take_the_step_of_the_formula(algorithm, structure):
    network = Network("tanh", "categorical")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    opt = make(algorithm, problem, structure=structure, method="cg")
    delta, _, info = opt.update(theta, opt.init(theta), x, y)
    assert info.solve.method == "cg"
    C = dense_curvature(problem, theta, x, y, structure, "expected", None)
    expected = formula(algorithm, C, problem.gradient(theta, x, y), problem.hessian(theta, x, y))
    limit = tolerance("float64", 1.0 + np.linalg.norm(C, 2) / info.damping, terms=theta.size)

    def check(found):
        np.testing.assert_allclose(found, expected, rtol=0, atol=limit * np.linalg.norm(expected))

    check(delta)
    with pytest.raises(AssertionError):  # planted: half a step
        check(0.5 * delta)


def test_a_structure_of_other_rows_is_not_given_coefficients_of_these():
    """A full Fisher of halved signals: c with g = B^T c says nothing of its rows."""

    class Halved:
        def build(self, activations, signals):
            return gr.curvature(activations, tuple(0.5 * d for d in signals))

    network = Network("tanh", "categorical")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    delta = _delta(make("ngd", problem, structure=Halved()), theta, x, y)
    expected = formula("ngd", 0.25 * network.fisher, problem.gradient(theta, x, y), None)
    limit = tolerance("float64", 1.0 + np.linalg.norm(network.fisher, 2) / DAMPING, terms=theta.size)
    np.testing.assert_allclose(delta, expected, rtol=0, atol=limit * np.linalg.norm(expected))


@pytest.mark.parametrize("algorithm", ["ring", "reng"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_rho_zero_is_ngd_to_the_bit(algorithm, structure):
    network = Network("silu", "poisson")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    plain = _delta(make("ngd", problem, structure=structure), theta, x, y)
    np.testing.assert_array_equal(
        _delta(make(algorithm, problem, structure=structure, rho=0.0), theta, x, y), plain
    )
    assert not np.array_equal(_delta(make(algorithm, problem, structure=structure), theta, x, y), plain)


# --- schedules and state ----------------------------------------------------------------------------------


def test_schedules_are_functions_of_the_step_number():
    network = Network("tanh", "gaussian")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    asked: list[tuple[str, int]] = []

    def schedule(name, values):
        def value(step: int) -> float:
            asked.append((name, step))
            return values[step]

        return value

    lrs, dampings, rhos = [0.5, 0.25, 0.125], [0.1, 0.2, 0.4], [1.0, 0.0, 3.0]
    opt = gr.ring(
        problem,
        lr=schedule("lr", lrs),
        damping=schedule("damping", dampings),
        rho=schedule("rho", rhos),
    )
    state = opt.init(theta)
    for step in range(3):
        fixed = gr.ring(problem, lr=lrs[step], damping=dampings[step], rho=rhos[step])
        expected = _delta(fixed, theta, x, y)
        delta, state, info = opt.update(theta, state, x, y)
        np.testing.assert_array_equal(delta, expected)
        assert info.step == step
        assert state.step == step + 1
        theta = theta + delta
    assert asked == [(name, step) for step in range(3) for name in ("lr", "rho", "damping")]


@pytest.mark.parametrize("name, bad", [("lr", -1.0), ("damping", -0.1), ("rho", float("nan"))])
def test_a_bad_value_of_a_schedule_is_an_error_and_changes_nothing(name, bad):
    network = Network("tanh", "gaussian")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    options = {"lr": LR, "damping": DAMPING, "rho": RHO} | {name: lambda step: bad if step else 0.5}
    opt = gr.ring(problem, **options)
    theta, state, _ = opt.step(theta, opt.init(theta), x, y)
    kept = theta.copy()
    with pytest.raises(ValueError, match=name):
        opt.step(theta, state, x, y)
    np.testing.assert_array_equal(theta, kept)
    assert state.step == 1


def test_updates_are_pure():
    """The same arguments give the same bits, whatever was called in between; arguments stay as they were."""
    network = Network("tanh", "categorical")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    opt = make("reng", problem, kind="monte_carlo", damping=0.5)
    kept = [a.copy() for a in (theta, x, y)]
    state = opt.init(theta)
    first = opt.update(theta, state, x, y)
    opt.update(theta + 1.0, first[1], x, y)
    second = opt.update(theta, state, x, y)
    np.testing.assert_array_equal(first[0], second[0])
    assert vars(first[1]) == vars(second[1])
    for before, after in zip(kept, (theta, x, y), strict=True):
        np.testing.assert_array_equal(before, after)


# --- draws ------------------------------------------------------------------------------------------------


def test_draws_come_from_the_seed_and_the_step():
    """``default_rng([seed, step])``: repeatable, given back, accepted again, and never the same twice."""
    network = Network("tanh", "gaussian", num_examples=4)
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    opt = make("ngd", problem, kind="monte_carlo", num_samples=3, seed=17)
    state, drawn = opt.init(theta), []
    for step in range(6):
        before = state
        delta, state, info = opt.update(theta, before, x, y)
        expected = problem.sample(theta, x, num_samples=3, rng=np.random.default_rng([17, step]))
        np.testing.assert_array_equal(info.samples, expected)
        again, _, _ = opt.update(theta, before, x, y, samples=info.samples)
        np.testing.assert_array_equal(again, delta)
        drawn.append(info.samples)
    other = make("ngd", problem, kind="monte_carlo", num_samples=3, seed=18)
    drawn.append(other.update(theta, other.init(theta), x, y)[2].samples)
    numbers = np.concatenate([np.ravel(d) for d in drawn])
    assert len(np.unique(numbers)) == numbers.size  # continuous draws: no number twice
    resumed = dataclasses.replace(opt.init(theta), step=4)  # negative control of the comparison: another step
    np.testing.assert_array_equal(opt.update(theta, resumed, x, y)[2].samples, drawn[4])
    assert not np.array_equal(drawn[4], drawn[3])


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_backend_draws_the_same_labels(likelihood, backend: Backend):
    network = Network("tanh", likelihood)
    host = make("ngd", network.problem, kind="monte_carlo", seed=3)
    expected = host.update(network.theta, host.init(network.theta), network.x, network.y)
    problem = gr.asarray(network.problem, backend=backend.library, dtype=backend.dtype, device=backend.device)
    theta, x, y = (backend.asarray(a) for a in (network.theta, network.x, network.y))
    opt = make("ngd", problem, kind="monte_carlo", seed=3)
    delta, _, info = opt.update(theta, opt.init(theta), x, y)
    # Gaussian labels are mean + noise: right to the rounding of the mean; the others are counts
    backend.assert_close(
        info.samples,
        expected[2].samples.astype(backend.dtype) if likelihood != "categorical" else expected[2].samples,
        rtol=tolerance(backend.dtype, terms=8),
    )
    # delta is (C + aI)^{-1} g with |C| / a of a few hundred at most
    condition = 1.0 + float(np.linalg.norm(network.fisher)) / DAMPING
    backend.assert_close(delta, expected[0], rtol=tolerance(backend.dtype, min(condition, 100.0), terms=8))


def test_samples_are_refused_where_none_are_drawn():
    network = Network("tanh", "gaussian")
    opt = make("ngd", network.problem)
    with pytest.raises(ValueError, match="samples"):
        opt.update(network.theta, opt.init(network.theta), network.x, network.y, samples=network.y[None])


# --- failures and special points ---------------------------------------------------------------------------


def test_a_failed_solve_carries_the_step_info_and_changes_nothing():
    """Monte-Carlo rows without damping: the gradient is not in their row space."""
    network = Network("tanh", "gaussian", num_examples=2)
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    opt = make("ngd", problem, kind="monte_carlo", damping=0.0)
    state, kept = dataclasses.replace(opt.init(theta), step=5), theta.copy()
    for call in (opt.update, opt.step):
        with pytest.raises(gr.NumericalError, match=r"step 5.*outside_range") as error:
            call(theta, state, x, y)
        info = error.value.result
        assert isinstance(info, gr.StepInfo)
        assert info.step == 5
        assert info.step_norm is None
        assert info.solve.status == "outside_range"
        assert info.loss == float(problem.loss(theta, x, y))
        np.testing.assert_array_equal(
            info.samples, problem.sample(theta, x, rng=np.random.default_rng([0, 5]))
        )
    np.testing.assert_array_equal(theta, kept)
    assert state.step == 5


@pytest.mark.parametrize(
    "options",
    [{"lr": 1e308}, {"lr": lambda step: 1e308}, {"lr": 1.0, "weight_decay": 1e308}],
    ids=["lr", "schedule", "weight decay"],
)
@pytest.mark.parametrize("algorithm", ["ngd", "ring", "reng", "kfac"])
def test_a_step_that_overflows_is_an_error_and_changes_nothing(algorithm, options):
    network = Network("tanh", "categorical")
    theta, x, y = 1e3 * network.theta, 1e-3 * network.x, network.y
    options = {"damping": 1e-6, **options} | ({"rho": 1e-12} if algorithm in ("ring", "reng") else {})
    opt = (
        gr.kfac(network.problem, **options)
        if algorithm == "kfac"
        else make(algorithm, network.problem, **options)
    )
    state = opt.init(theta)
    with pytest.raises(gr.NumericalError, match="step 0: delta overflowed") as error:  # and no warning
        opt.step(theta, state, x, y)
    assert error.value.result.step_norm is None
    assert error.value.result.solve.status == "converged"
    assert state.step == 0


def test_a_momentum_that_overflows_is_an_error():
    network = Network("tanh", "categorical")
    opt = make("ngd", network.problem, momentum=0.9)
    huge = np.full_like(network.theta, np.finfo(float).max)
    state = dataclasses.replace(opt.init(network.theta), step=1, previous=huge)
    opt.update(network.theta, state, network.x, network.y)  # 0.9 times the largest number is finite
    wild = dataclasses.replace(state, previous=np.inf * huge)
    with pytest.raises(gr.NumericalError, match="delta overflowed"):
        opt.update(network.theta, wild, network.x, network.y)


@pytest.mark.parametrize("structure", list(CURVATURES))
def test_a_curvature_that_overflows_is_named(structure):
    problem = gr.Problem(gr.MLP((1, 1), activation="identity"), gr.Gaussian())
    theta, x, y = np.zeros(2), np.array([[1e200]]), np.zeros((1, 1))
    opt = gr.ngd(problem, lr=1.0, damping=1.0, structure=structure)
    with pytest.raises(gr.NumericalError, match="the curvature overflowed"):  # and no warning
        opt.update(theta, opt.init(theta), x, y)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("algorithm", ["ngd", "ring", "reng"])
def test_a_stationary_point_stays(algorithm, structure):
    """Labels equal to the outputs: g = 0 exactly. With rho > 0 and no damping the step is 0, no error."""
    for num_examples in (2, 30):  # fewer rows than parameters, and more
        network = Network("tanh", "gaussian", sizes=(2, 3, 2), num_examples=num_examples)
        problem, theta, x = network.problem, network.theta, network.x
        y = problem.outputs(theta, x)
        opt = make(algorithm, problem, structure=structure, damping=0.0)
        delta, _, info = opt.update(theta, opt.init(theta), x, y)
        assert info.gradient_norm == 0.0
        assert np.all(delta == 0.0)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("num_examples", [4, 60])
def test_ring_undamped_near_a_stationary_point_of_a_singular_fisher(structure, num_examples):
    """lam = 0: the damping rho |g|^2 falls below the roundoff of F, and the steps go on to the solution."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((num_examples, 4))
    x[:, 0] = x[:, 1] + 0.3 * x[:, 2]  # dependent inputs: F is singular, in every structure
    problem = gr.Problem(gr.MLP((4, 3, 2)), gr.Gaussian())
    solution = problem.init(5)
    y = problem.outputs(solution, x)
    for size in (1e-4, 1e-8, 1e-12):
        theta = solution + size * rng.standard_normal(solution.size)
        opt = gr.ring(problem, lr=1.0, rho=1.0, structure=structure)
        delta, _, info = opt.update(theta, opt.init(theta), x, y)
        assert info.solve.status == "converged"
        assert float(delta @ problem.gradient(theta, x, y)) < 0.0
        # no part of the step lies where F is zero, up to the accuracy of the eigenvectors
        C = gr.fisher(problem, theta, x, structure=structure)
        values, vectors = np.linalg.eigh(C.to_dense())
        null = vectors[:, values < 1e-12 * values[-1]]  # the others are above 1e-5 for these inputs
        assert null.shape[1] > 0
        if info.damping < 1e-16 * values[-1]:
            # An eigenvector is right to eps over the gap, 1e-11. A step that divides the roundoff of g,
            # eps |g|, by such a damping would lie there altogether.
            assert np.linalg.norm(null.T @ delta) < 1e-3 * np.linalg.norm(delta)
        if structure == "full":  # Newton's method up to terms of second order, and of the damping
            assert np.linalg.norm(problem.gradient(theta + delta, x, y)) < 0.1 * info.gradient_norm


def test_undamped_ngd_on_a_linear_gaussian_network_is_newtons_method():
    """One step to the least-squares solution, from anywhere, with more rows than parameters or fewer."""
    rng = np.random.default_rng(0)
    for num_examples in (3, 12):
        model = gr.MLP((4, 1), activation="identity")
        problem = gr.Problem(model, gr.Gaussian(variance=0.5))
        theta, x = rng.standard_normal(5), rng.standard_normal((num_examples, 4))
        y = rng.standard_normal((num_examples, 1))
        opt = gr.ngd(problem, lr=1.0)
        moved, _, _ = opt.step(theta, opt.init(theta), x, y)
        design = np.hstack([x, np.ones((num_examples, 1))])
        # the minimum-norm step: the closest least-squares solution to theta
        expected = theta + np.linalg.pinv(design) @ (y[:, 0] - design @ theta)
        # solved with the Gram matrix, whose condition is the square of that of the design
        limit = tolerance("float64", np.linalg.cond(design) ** 2, terms=theta.size)
        np.testing.assert_allclose(moved, expected, rtol=0, atol=limit * np.linalg.norm(expected))


@given(
    algorithm=st.sampled_from(["ngd", "ring", "reng"]),
    structure=st.sampled_from(STRUCTURES),
    likelihood=st.sampled_from(LIKELIHOODS),
    widths=st.lists(st.integers(1, 3), min_size=2, max_size=3),
    num_examples=st.integers(1, 4),
    dtype=st.sampled_from(["float64", "float32"]),
    relative=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 10**6),
)
def test_any_small_problem(algorithm, structure, likelihood, widths, num_examples, dtype, relative, seed):
    """N = 1, K = 1, single units, one class, both dtypes: finite steps of that dtype; NGD, RING descend."""
    network = Network("tanh", likelihood, sizes=tuple(widths), num_examples=num_examples, seed=seed)
    problem, y = network.problem, network.y
    theta, x = network.theta.astype(dtype), network.x.astype(dtype)
    y = y.astype(dtype) if y.dtype.kind == "f" else y
    opt = make(algorithm, problem, structure=structure, damping=relative)
    delta, _, info = opt.update(theta, opt.init(theta), x, y)
    assert delta.dtype == theta.dtype
    assert delta.shape == theta.shape
    assert np.all(np.isfinite(delta))
    g = problem.gradient(theta, x, y)
    if algorithm != "reng":
        assert float(delta @ g) <= 0.0
        # |(C + aI)^{-1} g| <= |g| / a
        bound = LR * float(np.linalg.norm(g)) / info.damping
        assert info.step_norm <= bound * (1 + 1e3 * float(np.finfo(dtype).eps))
