"""Averages, refreshing, momentum, decay and schedules, against loops written out in NumPy.

`Reference` is K-FAC by hand: gradient and factors example by example, the corrected average as the sum that
defines it. Every option is checked over many steps, and the errors that one could make are planted in it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from support import tolerance

import grng_ref as gr
from grng_ref.curvature import STRUCTURES

SIZES = (3, 4, 2)
PROBLEM = gr.Problem(gr.MLP(SIZES), gr.Categorical())
SPLIT = 4 * 4  # of theta between the two layers
STEPS = 24


def batches(count=STEPS, num_examples=6):
    rng = np.random.default_rng(7)
    for _ in range(count):
        yield rng.standard_normal((num_examples, 3)), rng.integers(0, 2, num_examples)


def look(theta, x, y):
    """Gradient (26,), and the factors A, G of both layers, of a tanh network with softmax outputs."""
    first, second = theta[:SPLIT].reshape(4, 4), theta[SPLIT:].reshape(2, 5)
    g, A, G = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    for row, label in zip(x, y, strict=True):
        inputs = np.append(row, 1.0)
        hidden = np.tanh(first @ inputs)
        outputs = second @ np.append(hidden, 1.0)
        p = np.exp(outputs) / np.sum(np.exp(outputs))
        derivatives = [second[:, :4] * (1.0 - hidden**2), np.eye(2)]  # of the outputs by the layers' sums
        for layer, abar in enumerate((inputs, np.append(hidden, 1.0))):
            J = derivatives[layer]
            g[layer] += np.outer(J.T @ (p - np.eye(2)[label]), abar) / len(x)
            A[layer] += np.outer(abar, abar) / len(x)
            G[layer] += J.T @ (np.diag(p) - np.outer(p, p)) @ J / len(x)
    return np.concatenate([part.ravel() for part in g]), A, G


class Reference:
    """K-FAC, RING with its structure, and their options; ``plant`` names an error to make."""

    def __init__(
        self,
        *,
        lr,
        damping,
        rho=0.0,
        damping_kind="exact",
        ema=None,
        refresh=1,
        momentum=0.0,
        weight_decay=0.0,
        plant=None,
    ):
        self.values = {"lr": lr, "damping": damping, "rho": rho}
        self.kind, self.beta, self.every = damping_kind, ema, refresh
        self.momentum, self.decay, self.plant = momentum, weight_decay, plant
        self.seen, self.factors = [], None
        self.last = self.velocity = np.zeros(26)
        self.count, self.condition = 0, 1.0

    def value(self, name):
        value = self.values[name]
        return value(self.count) if callable(value) else value

    def average(self, factors):
        """The corrected average of all the factors seen, by its definition."""
        self.seen.append(factors)
        if self.beta is None:
            return factors
        t = len(self.seen)
        weights = [(1 - self.beta) * self.beta ** (t - s) for s in range(1, t + 1)]
        correction = 1 - self.beta**t
        total = [sum(w * f[i] for w, f in zip(weights, self.seen, strict=True)) for i in range(4)]
        if self.plant == "average uncorrected":
            return total
        if self.plant == "average corrected twice":
            return [f / correction**2 for f in total]
        if self.plant == "average started at I":
            return [self.beta**t * np.eye(len(f)) + f for f in total]
        return [f / correction for f in total]

    def solve(self, v, a):
        """Damped Kronecker products, dense; remembers the worst condition number."""
        parts = []
        for layer, part in enumerate((v[:SPLIT], v[SPLIT:])):
            A, G = self.factors[layer], self.factors[2 + layer]
            if self.kind == "exact":
                M = np.kron(G, A) + a * np.eye(len(part))
            else:
                pi = math.sqrt(np.trace(A) / len(A) / (np.trace(G) / len(G)))
                pi = 1.0 if self.plant == "damping split evenly" else pi
                left, right = math.sqrt(a) / pi * np.eye(len(G)), pi * math.sqrt(a) * np.eye(len(A))
                M = np.kron(G + left, A + right)
            self.condition = max(self.condition, float(np.linalg.cond(M)))
            parts.append(np.linalg.solve(M, part))
        return np.concatenate(parts)

    def step(self, theta, x, y):
        g, A, G = look(theta, x, y)
        lr, a, rho = (self.value(name) for name in ("lr", "damping", "rho"))
        a += rho * (np.linalg.norm(g) if self.plant == "norm not squared" else g @ g)
        late = self.plant == "refreshed a step late" and self.factors is not None
        if (self.count - int(late)) % self.every == 0 or self.plant == "refreshed every step":
            self.factors = self.average([*A, *G])
        if self.plant == "decay in the gradient":
            g = g + self.decay * theta
        if self.plant == "momentum on the gradient":
            self.velocity = g + self.momentum * self.velocity
            delta = -lr * self.solve(self.velocity, a)
        else:
            delta = -lr * self.solve(g, a) + self.momentum * self.last
        decayed = 0.0 if self.plant == "decay in the gradient" else lr * self.decay * theta
        if self.plant == "decay without lr":
            decayed = self.decay * theta
        self.last = delta - decayed if self.plant == "decay carried by the momentum" else delta
        self.count += 1
        return delta - decayed


def check(opt, reference):
    """Every step of a run from the same theta by both; the first that differs is an AssertionError."""
    theta = PROBLEM.init(rng=0)
    state = opt.init(theta)
    for x, y in batches():
        delta, state, info = opt.update(theta, state, x, y)
        expected = reference.step(theta, x, y)
        # both solve with a backward error of a few n eps; the momentum adds up errors of earlier steps
        error = tolerance("float64", reference.condition, terms=26) / (1.0 - reference.momentum)
        np.testing.assert_allclose(delta, expected, rtol=0, atol=error * np.linalg.norm(expected))
        assert info.step_norm == pytest.approx(np.linalg.norm(expected), rel=error)
        theta = theta + delta


OPTIONS = {
    "average": ({"ema": 0.8}, ["average uncorrected", "average corrected twice", "average started at I"]),
    "factored": ({"damping_kind": "factored"}, ["damping split evenly"]),
    "average, factored": (
        {"ema": 0.95, "damping_kind": "factored"},
        ["average uncorrected", "average corrected twice", "average started at I", "damping split evenly"],
    ),
    "refresh": ({"refresh": 3}, ["refreshed every step", "refreshed a step late"]),
    "average, refresh": (
        {"ema": 0.7, "refresh": 4},
        ["refreshed every step", "refreshed a step late", "average uncorrected"],
    ),
    "momentum": ({"momentum": 0.9, "lr": 0.1}, ["momentum on the gradient"]),
    "decay": ({"weight_decay": 0.1}, ["decay in the gradient", "decay without lr"]),
    "momentum, decay": (
        {"momentum": 0.5, "weight_decay": 0.1},
        ["momentum on the gradient", "decay in the gradient", "decay carried by the momentum"],
    ),
    "schedules": (
        {"lr": lambda k: 0.5 / (1 + k), "damping": lambda k: 0.1 + 0.02 * k, "rho": lambda k: k % 3},
        ["norm not squared"],
    ),
    "RING, all": (
        {
            "lr": lambda k: 0.4 / math.sqrt(1 + k),
            "rho": 0.5,
            "damping_kind": "factored",
            "ema": 0.9,
            "refresh": 2,
            "momentum": 0.5,
            "weight_decay": 0.05,
        },
        ["norm not squared", "average uncorrected", "decay carried by the momentum", "damping split evenly"],
    ),
    "RING, exact": ({"rho": 0.5, "ema": 0.9}, ["norm not squared", "average started at I"]),
}
CASES = [(name, plant) for name, (_, plants) in OPTIONS.items() for plant in (None, *plants)]


@pytest.mark.parametrize("name, plant", CASES)
def test_every_option_is_its_loop(name, plant):
    options = {"lr": 0.3, "damping": 0.1, **OPTIONS[name][0]}
    make = gr.ring if "rho" in options else gr.ngd
    opt, reference = make(PROBLEM, structure="kfac", **options), Reference(**options, plant=plant)
    if plant is None:
        check(opt, reference)
    else:
        with pytest.raises(AssertionError, match="Not equal"):
            check(opt, reference)


@pytest.mark.parametrize("method", ["auto", "cholesky", "eigh", "newton_schulz"])
def test_the_kfac_baseline_is_its_loop(method):
    """Averaged factors, factored damping and heavy-ball momentum, as documented, by default."""
    loop = {"damping_kind": "factored", "ema": 0.95, "momentum": 0.9}
    opt = gr.kfac(PROBLEM, lr=0.1, damping=0.05, method=method)
    check(opt, Reference(lr=0.1, damping=0.05, **loop))
    for changed in ({"damping_kind": "exact"}, {"ema": None}, {"ema": 0.9}, {"momentum": 0.0}):
        with pytest.raises(AssertionError, match="Not equal"):
            check(opt, Reference(lr=0.1, damping=0.05, **(loop | changed)))


def test_the_kfac_baseline_takes_the_options():
    options = {"refresh": 3, "ema": 0.8, "momentum": 0.5, "weight_decay": 0.01}
    schedules = {"lr": lambda k: 0.3 / (1 + k), "damping": lambda k: 0.1 / (1 + k)}
    check(
        gr.kfac(PROBLEM, **schedules, **options), Reference(damping_kind="factored", **schedules, **options)
    )
    check(
        gr.kfac(PROBLEM, lr=0.1, ema=None),
        Reference(lr=0.1, damping=1e-3, damping_kind="factored", momentum=0.9),
    )


# --- averages of every structure --------------------------------------------------------------------------

LINEAR = ("full", "block_diagonal", "unitwise", "diagonal")


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_state_holds_the_corrected_average_of_every_structure(name):
    """The sum that defines it, over the curvatures at the thetas and batches that were visited."""
    beta, theta, seen = 0.6, PROBLEM.init(rng=1), []
    opt = gr.ngd(PROBLEM, lr=0.3, damping=0.2, structure=name, ema=beta)
    state = opt.init(theta)
    assert (state.curvature, state.previous, state.refreshes) == (None, None, 0)
    for t, (x, y) in enumerate(batches(5, num_examples=30), start=1):
        seen.append(gr.fisher(PROBLEM, theta, x, structure=name))
        delta, state, _ = opt.update(theta, state, x, y)
        weights = [(1 - beta) * beta ** (t - s) / (1 - beta**t) for s in range(1, t + 1)]
        assert sum(weights) == pytest.approx(1.0, rel=1e-14)
        pairs = list(zip(weights, seen, strict=True))
        if name in LINEAR:
            close(state.curvature.to_dense(), sum(w * c.to_dense() for w, c in pairs))
        else:
            for layer, index in itertools.product(range(2), range(2)):
                expected = sum(w * c.factors[layer][index] for w, c in pairs)
                close(state.curvature.factors[layer][index], expected)
        if t == 1:  # the first average is the first curvature: the step is that without averages
            plain = gr.ngd(PROBLEM, lr=0.3, damping=0.2, structure=name)
            np.testing.assert_array_equal(delta, plain.update(theta, plain.init(theta), x, y)[0])
        # the step is the solve with the average in the state
        direction = state.curvature.solve(PROBLEM.gradient(theta, x, y), damping=0.2)
        close(delta, -0.3 * direction, condition=100.0)
        assert (state.step, state.refreshes) == (t, t)
        theta = theta + delta


def test_the_moments_of_ekfac_follow_their_recursion_and_not_the_sum():
    """In the eigenbasis of the averaged factors, the diagonal of the last average mixed with the newest."""
    beta, theta, seen = 0.6, PROBLEM.init(rng=1), []
    opt = gr.ngd(PROBLEM, lr=0.3, damping=0.2, structure="ekfac", ema=beta)
    state, recursive = opt.init(theta), None
    for t, (x, y) in enumerate(batches(4, num_examples=30), start=1):
        newest = gr.fisher(PROBLEM, theta, x, structure="ekfac")
        seen.append(newest)
        delta, state, _ = opt.update(theta, state, x, y)
        weight = (1 - beta) / (1 - beta**t)
        mixed = weight * newest.to_dense()
        if recursive is not None:
            mixed += (1 - weight) * recursive
        weights = [(1 - beta) * beta ** (t - s) / (1 - beta**t) for s in range(1, t + 1)]
        summed = sum(w * c.to_dense() for w, c in zip(weights, seen, strict=True))
        recursive, projected = (in_basis(matrix, state.curvature.factors) for matrix in (mixed, summed))
        close(state.curvature.to_dense(), recursive, condition=1e4)  # what a small gap turns a basis by
        theta = theta + delta
    assert np.linalg.norm(projected - recursive) > 1e-3 * np.linalg.norm(recursive)


def in_basis(matrix, factors):
    """The nearest matrix that is diagonal, layer by layer, in the eigenbasis of Kronecker factors."""
    result, start = np.zeros_like(matrix), 0
    for A, G in factors:
        Q = np.kron(np.linalg.eigh(G)[1], np.linalg.eigh(A)[1])
        part = slice(start, start + len(Q))
        result[part, part] = (Q * np.diag(Q.T @ matrix[part, part] @ Q)) @ Q.T
        start += len(Q)
    return result


def close(actual, expected, **options):
    bound = tolerance("float64", **options) * np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("algorithm", ["ngd", "ring", "reng"])
def test_a_kept_curvature_is_used_without_coefficients(name, algorithm):
    """Between refreshes: gradient, damping and H g of the new point, C of the old one."""
    rho = {} if algorithm == "ngd" else {"rho": 0.4}
    opt = getattr(gr, algorithm)(PROBLEM, lr=0.5, damping=0.3, structure=name, refresh=2, **rho)
    theta = PROBLEM.init(rng=2)
    (x0, y0), (x1, y1), (x2, y2) = batches(3, num_examples=8)
    moved, state, _ = opt.step(theta, opt.init(theta), x0, y0)
    old = gr.fisher(PROBLEM, theta, x0, structure=name)
    g = PROBLEM.gradient(moved, x1, y1)
    a = 0.3 + (0.4 * float(g @ g) if algorithm == "ring" else 0.0)
    v = g + (0.4 * PROBLEM.hvp(moved, x1, y1, g) if algorithm == "reng" else 0.0)
    delta, state, info = opt.update(moved, state, x1, y1)
    close(delta, -0.5 * old.solve(v, damping=a), condition=100.0)
    assert info.damping == pytest.approx(a)
    assert info.loss == float(PROBLEM.loss(moved, x1, y1))
    # and the third step is that of a fresh curvature
    fresh = dataclasses.replace(opt.init(theta), step=2)
    again = opt.update(moved + delta, state, x2, y2)
    np.testing.assert_array_equal(again[0], opt.update(moved + delta, fresh, x2, y2)[0])
    assert (state.refreshes, again[1].refreshes) == (1, 2)


def test_nothing_is_kept_that_no_option_needs():
    x, y = next(batches(1))
    theta = PROBLEM.init()
    for options, kept in (({}, ()), ({"ema": 0.9}, ("curvature",)), ({"refresh": 2}, ("curvature",))):
        for momentum in (0.0, 0.5):
            opt = gr.ngd(PROBLEM, lr=0.1, damping=0.1, momentum=momentum, weight_decay=0.1, **options)
            state = opt.step(theta, opt.init(theta), x, y)[1]
            held = {name for name in ("curvature", "previous") if getattr(state, name) is not None}
            assert held == {*kept, *(("previous",) if momentum else ())}
            assert state.refreshes == (1 if kept else 0)


def test_labels_are_drawn_only_where_the_curvature_is_built():
    opt = gr.kfac(PROBLEM, lr=0.1, damping=0.1, kind="monte_carlo", num_samples=2, refresh=3, seed=9)
    theta = PROBLEM.init()
    state = opt.init(theta)
    for step, (x, y) in enumerate(batches(7)):
        before = state
        delta, state, info = opt.update(theta, before, x, y)
        if step % 3 == 0:
            drawn = PROBLEM.sample(theta, x, num_samples=2, rng=np.random.default_rng([9, step]))
            np.testing.assert_array_equal(info.samples, drawn)
            np.testing.assert_array_equal(opt.update(theta, before, x, y, samples=drawn)[0], delta)
        else:
            assert info.samples is None
            with pytest.raises(ValueError, match="samples must be None"):
                opt.update(theta, before, x, y, samples=drawn)
        theta = theta + delta


def test_a_loaded_run_goes_on_in_every_bit(tmp_path):
    """Saved in the middle of a period, with averages and momentum, of every structure."""
    for name in STRUCTURES:
        opt = gr.ring(PROBLEM, lr=0.2, rho=0.3, damping=0.1, structure=name, ema=0.8, refresh=3, momentum=0.7)
        theta = PROBLEM.init()
        state = opt.init(theta)
        for step, (x, y) in enumerate(batches(8)):
            if step in (1, 5):
                gr.save(tmp_path / f"{step}", (theta, state))
            theta, state, _ = opt.step(theta, state, x, y)
        for saved in (1, 5):
            again, loaded = gr.load(tmp_path / f"{saved}")
            for x, y in itertools.islice(batches(8), saved, None):
                again, loaded, _ = opt.step(again, loaded, x, y)
            np.testing.assert_array_equal(again, theta)


def test_a_state_holds_no_array_of_the_caller():
    """Batches and steps may be overwritten in place; without biases the first layer's input is x itself."""
    problem = gr.Problem(gr.MLP(SIZES, bias=False), gr.Categorical())
    opt = gr.ngd(problem, lr=0.3, damping=0.1, refresh=2, momentum=0.5)
    (x0, y0), (x1, y1) = batches(2)
    theta = problem.init()
    delta, state, _ = opt.update(theta, opt.init(theta), x0, y0)
    moved = theta + delta
    expected = opt.update(moved, state, x1, y1)[0]
    x0 *= 2.0
    delta *= 2.0
    np.testing.assert_array_equal(opt.update(moved, state, x1, y1)[0], expected)


# --- structures without an average; states of others --------------------------------------------------------


class WithoutAverage:
    """A structure of a user, written for what has no averages."""

    def build(self, activations, score_signals):
        return STRUCTURES["kfac"].build(activations, score_signals)


def test_a_structure_without_average_works_until_an_average_is_asked_for():
    options = {"lr": 0.3, "damping": 0.1, "refresh": 2, "momentum": 0.5}
    check(gr.ngd(PROBLEM, structure=WithoutAverage(), **options), Reference(**options))
    with pytest.raises(TypeError, match=r"average\(old, new, weight\).*WithoutAverage"):
        gr.ngd(PROBLEM, structure=WithoutAverage(), ema=0.9, **options)


def test_a_state_of_another_problem_is_refused():
    other = gr.Problem(gr.MLP((3, 5, 2)), gr.Categorical())
    x, y = next(batches(1))
    for options in ({"momentum": 0.5}, {"ema": 0.5}, {"refresh": 2}):
        opt, elsewhere = (
            gr.ngd(p, lr=0.1, damping=0.1, structure="kfac", **options) for p in (PROBLEM, other)
        )
        theta = other.init()
        foreign = elsewhere.step(theta, elsewhere.init(theta), x, y)[1]
        with pytest.raises(ValueError, match="must have shape"):
            opt.update(PROBLEM.init(), foreign, x, y)
