"""`fit` against an explicit loop, on every backend; records, failures, batches, schedules."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from support import tolerance
from training.training_cases import OPTIMIZERS, OPTIONS, PROBLEM, THETA, VALIDATION, X, Y, run

import grng_ref as gr
from grng_ref import training
from grng_ref.arrays import host_generator, stream
from grng_ref.training.batches import Batches


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fit_is_the_loop_over_batches(name):
    """The loop written out: losses by `problem.loss`, alignment from dense matrices, accuracy counted."""
    done = run(None, name)
    opt = OPTIMIZERS[name](PROBLEM)
    theta, state = THETA, opt.init(THETA)
    records = {record.step: record for record in done.records}
    for step in range(9):
        seeds = np.random.SeedSequence(0, spawn_key=(0, step // 3))
        order = np.random.default_rng(seeds).permutation(36)
        chosen = order[12 * (step % 3) : 12 * (step % 3 + 1)]
        xb, yb = X[chosen], Y[chosen]
        before = theta
        theta, state, info = opt.step(theta, state, xb, yb)
        if step + 1 not in records:
            continue
        record = records[step + 1]
        assert record.epoch == (step + 1) / 3
        assert record.batch_loss == info.loss
        assert record.step_norm == info.step_norm
        assert record.damping == info.damping
        # the same sums in the same order; only the mean is taken elsewhere
        assert record.loss == pytest.approx(float(PROBLEM.loss(theta, X, Y)), rel=1e-14)
        assert record.validation_loss == pytest.approx(float(PROBLEM.loss(theta, *VALIDATION)), rel=1e-14)
        hits = sum(int(np.argmax(PROBLEM.outputs(theta, X)[i])) == Y[i] for i in range(36))
        assert record.accuracy == hits / 36
        rows, g = PROBLEM.score_rows(before, xb), PROBLEM.gradient(before, xb, yb)
        exact = -np.linalg.solve(rows.T @ rows + 0.1 * np.eye(len(g)), g)
        delta = theta - before
        cosine = delta @ exact / np.linalg.norm(delta) / np.linalg.norm(exact)
        # the step is a difference of two thetas, rounded at their size
        rounding = tolerance("float64", condition=np.linalg.norm(theta) / np.linalg.norm(delta))
        assert record.cosine == pytest.approx(cosine, abs=100 * rounding)
        assert record.pearson == pytest.approx(np.corrcoef(delta, exact)[0, 1], abs=100 * rounding)
    assert np.array_equal(done.theta, theta)
    assert set(records) == {0, 2, 4, 6, 8, 9}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_backend_trains_to_the_same_numbers(name, backend):
    """Within roundoff, which nine steps of training carry on; float32 against float64."""
    if backend.library == "jax" and (name not in ("adamw", "rkalman") or backend.dtype == "float32"):
        pytest.skip("JAX compiles every operation for every shape: two optimizers are enough there")
    if backend.library == "torch" and backend.dtype == "float32" and name != "kfac":
        pytest.skip("PyTorch's float32 is tried with one optimizer")
    reference = run(None, name, every=9)
    theta, x, y = backend.asarray((THETA, X, Y))
    problem = PROBLEM
    options = OPTIONS | {"validation": backend.asarray(VALIDATION), "every": 9}
    done = training.fit(problem, OPTIMIZERS[name](problem), theta, x, y, **options)
    assert done.status == "finished"
    # Solves with condition numbers up to 1/damping; a sampled label or a sign may not flip, and none does.
    loose = tolerance(backend.dtype, condition=100.0, terms=9)
    backend.assert_close(done.theta, reference.theta, rtol=loose)
    assert done.records[-1].loss == pytest.approx(reference.records[-1].loss, rel=loose)
    assert done.records[-1].cosine == pytest.approx(reference.records[-1].cosine, abs=loose)


def test_rkalman_learns_online_in_one_pass():
    """Linear-Gaussian: after one pass in batches the mean is the ridge regression, whatever the order."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(30, 3)), rng.normal(size=(30, 1))
    y = x @ np.array([[1.0], [-2.0], [0.5]]) + noise
    problem = gr.Problem(gr.MLP((3, 1), activation="identity"), gr.Gaussian())
    theta = np.zeros(problem.num_parameters)
    for seed in (0, 1):
        done = training.fit(
            problem, gr.rkalman(problem, prior_variance=2.0), theta, x, y, epochs=1, batch_size=7, seed=seed
        )
        design = np.hstack([x, np.ones((30, 1))])
        ridge = np.linalg.solve(design.T @ design + 0.5 * np.eye(4), design.T @ y[:, 0])
        np.testing.assert_allclose(done.theta, ridge, rtol=tolerance("float64", condition=100.0))


def test_a_failed_step_ends_the_run_with_its_message(tmp_path):
    opt = gr.ngd(PROBLEM, lr=0.1, damping=training.schedule("linear", 0.1, steps=4), method="cholesky")

    class Failing:
        init = staticmethod(opt.init)

        def step(self, theta, state, x, y):
            if state.step == 3:
                raise gr.NumericalError("step 3: no solution")
            return opt.step(theta, state, x, y)

    done = training.fit(PROBLEM, Failing(), THETA, X, Y, steps=6, every=1, records=tmp_path / "r.jsonl")
    assert done.status == "failed: step 3: no solution"
    assert done.step == 3
    assert np.all(np.isfinite(done.theta))
    read = training.read_records(tmp_path / "r.jsonl")
    assert read.status == done.status
    assert [record.step for record in read.records] == [0, 1, 2, 3]
    assert done.records[-1].gradient_evaluations is None  # this optimizer does not say


@pytest.mark.filterwarnings("ignore:overflow")
def test_divergence_is_a_failure_and_no_nan(tmp_path):
    problem = gr.Problem(gr.MLP((8, 1), activation="identity"), gr.Gaussian())
    y, path = np.ones((36, 1)), tmp_path / "r.jsonl"
    done = training.fit(
        problem, gr.sgd(problem, lr=1e200), problem.init(rng=0), X, y, steps=5, every=1, records=path
    )
    assert done.status.startswith("failed: ")
    assert "NaN" not in path.read_text().replace(done.status, "")
    assert "Infinity" not in path.read_text()


@pytest.mark.parametrize("what", ["parameters", "info.loss", "info.gradient_norm"])
def test_numbers_that_are_none_fail_the_run(what, tmp_path):
    """A user's optimizer that gives NaN: a failed run, and no checkpoint that holds it."""

    @dataclasses.dataclass(frozen=True)
    class Broken:
        inner: Any

        def init(self, theta):
            return self.inner.init(theta)

        def update(self, theta, state, x, y, **draws):
            raise NotImplementedError

        def step(self, theta, state, x, y, **draws):
            theta, state, info = self.inner.step(theta, state, x, y, **draws)
            if info.step == 2:
                if what == "parameters":
                    theta = theta * math.nan
                else:
                    info = info._replace(**{what.removeprefix("info."): math.nan})
            return theta, state, info

    files = {"records": tmp_path / "r.jsonl", "checkpoint": tmp_path / "c.npz"}
    done = training.fit(
        PROBLEM, Broken(gr.sgd(PROBLEM, lr=0.1)), THETA, X, Y, steps=6, every=6, checkpoint_every=1, **files
    )
    assert done.status == f"failed: step 2: Broken gave {what} not finite"
    position = gr.load(tmp_path / "c.npz")["position"]
    assert position.step == 2
    assert np.all(np.isfinite(position.theta))
    assert "failed" in (tmp_path / "r.jsonl").read_text().splitlines()[-1]


def test_the_start_is_not_changed():
    theta = THETA.copy()
    run()
    assert np.array_equal(theta, THETA)


@pytest.mark.parametrize(
    ("likelihood", "y", "accuracy"),
    [
        (gr.Bernoulli(), [[1.0], [0.0], [1.0], [0.0]], 0.75),
        (gr.Gaussian(), [[1.0], [0.0], [1.0], [0.0]], None),
    ],
)
def test_accuracy_counts_classes(likelihood, y, accuracy):
    problem = gr.Problem(gr.MLP((1, 1), activation="identity"), likelihood)
    theta = np.array([1.0, 0.0])
    x = np.array([[2.0], [-1.0], [0.5], [0.25]])
    assert training.evaluate(problem, theta, x, np.array(y)).accuracy == accuracy


# --- batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("examples", "size"), [(36, 15), (10, 3), (5, 9), (7, 1)])
def test_an_epoch_visits_every_example_once(examples, size):
    batches = Batches(examples, size, seed=4)
    for epoch in (0, 3):
        first = epoch * batches.per_epoch
        parts = [batches.indices(first + i) for i in range(batches.per_epoch)]
        assert sorted(np.concatenate(parts)) == list(range(examples))
        lengths = [len(part) for part in parts]
        assert max(lengths) <= size
        assert max(lengths) - min(lengths) <= 1
    whole = [np.concatenate([batches.indices(e * batches.per_epoch + i) for i in range(batches.per_epoch)])
             for e in (0, 1)]  # fmt: skip
    assert examples < 6 or not np.array_equal(*whole)  # another order in the next epoch


def test_streams_of_one_seed_share_no_draws():
    """All uses of a seed in a run: first parameters, split, batches of an epoch, draws of a step."""
    uses = {"init": host_generator(3), "data": stream(3, "data"), "start": stream(3, "parameters")}
    uses |= {f"epoch {i}": stream(3, "batches", i) for i in range(4)}
    uses |= {f"step {i}": host_generator([3, i]) for i in range(1, 4)}  # step 0 is that of init
    first = {name: generator.bit_generator.random_raw() for name, generator in uses.items()}
    assert len(set(first.values())) == len(first)
    assert host_generator([3, 0]).bit_generator.random_raw() == first["init"]


def test_batches_are_no_function_of_the_first_parameters():
    """The first permutation is not that of the generator that drew the parameters."""
    for generator in (np.random.default_rng(5), np.random.default_rng([5, 0])):
        assert not np.array_equal(Batches(30, 30, 5).indices(0), generator.permutation(30))


def test_without_a_batch_size_a_step_sees_all_in_their_order():
    x, y = Batches(36, None, 0).take(X, Y, 5)
    assert x is X
    assert y is Y


# --- schedules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("constant", [2.0] * 4),
        ("linear", [2.0, 1.5, 1.0, 0.5]),
        ("cosine", [2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)]),
        ("exponential", [2.0, 2 * 10**-0.5, 0.2, 2 * 10**-1.5]),
        ("warmup", [2.0, 2.0, 1.5, 0.5]),
    ],
)
def test_schedules(name, values):
    found = training.schedule(name, 2.0, steps=4)
    assert [found(step) for step in range(4)] == pytest.approx(values)
    assert found(9) == found(3)


# --- costs -------------------------------------------------------------------------------------------------


class Counting(gr.Problem):
    """Counts the passes that an optimizer really asks for."""

    passes = 0

    def count(self, passes):
        type(self).passes += passes

    def gradient(self, *arguments):
        self.count(3)
        return super().gradient(*arguments)

    def hvp(self, *arguments):
        self.count(6)
        return super().hvp(*arguments)

    def hessian(self, *arguments):
        self.count(6 * self.num_parameters)
        return super().hessian(*arguments)

    def linearize(self, theta, x, y, *, kind="expected", **options):
        at = super().linearize(theta, x, y, kind=kind, **options)
        self.count(3 + 2 * at.signals[0].shape[1])
        return at


COSTS = OPTIMIZERS | {
    "sophia-h": lambda p: gr.sophia(p, lr=0.01, estimator="hutchinson", refresh=2),
    "empirical": lambda p: gr.ngd(p, lr=0.1, damping=0.1, kind="empirical"),
    "finite difference": lambda p: gr.reng(p, lr=0.1, damping=0.1, rho=0.1, hvp="finite_difference"),
    "explicit filter": lambda p: gr.rkalman(p, rho=0.1, regularization="explicit"),
    "iterated filter": lambda p: gr.rkalman(p, iterations=3),
    "two samples": lambda p: gr.ngd(p, lr=0.1, damping=0.1, kind="monte_carlo", num_samples=2),
}


@pytest.mark.parametrize("name", COSTS)
def test_costs_are_those_of_the_calls(name):
    """The stated passes against those that a problem counts."""
    Counting.passes = 0
    problem = Counting(PROBLEM.model, PROBLEM.likelihood)
    opt = COSTS[name](problem)
    theta, state, stated = THETA, opt.init(THETA), 0
    for step in range(4):
        theta, state, _ = opt.step(theta, state, X, Y)
        stated += training.passes_of_step(opt, step, 10)
    shared = 2 if name == "sophia" else 0  # its second gradient, at steps 0 and 2, is at the same theta
    assert stated == Counting.passes - shared
