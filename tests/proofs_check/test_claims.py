"""The suite's own claims: all as expected in both precisions, and none of the planted errors gets through."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
from planted import assert_caught

import grng_ref as gr
from grng_ref.curvature import base, ekfac, kfac, kronecker_optimal, score, tridiagonal, unitwise
from grng_ref.curvature.full import DENSE_SOLVERS
from grng_ref.solvers import solve_cholesky
from proofs_check import Run, Suite, data, load_suite, run_suite, select
from proofs_check.tolerance import roundoff

SUITE = load_suite()
# the module: the package exports a function of the same name
natural = importlib.import_module("grng_ref.optimizers.natural")

# the right ones, for the wrong ones to call
kfac_factors, hvp = gr.kfac_factors, gr.Problem.hvp
sampled_gradients = gr.Problem._sampled_gradients


FEWER = {"no-attack-contradicts-a-certificate": {"count": 15}}
# What computes on the host in float64 whatever the run's dtype, takes its floats as exact numbers, or takes
# more than a second: `proofs-check --dtype float32` runs these too.
NOT_IN_FLOAT32 = (
    "no-attack-*",
    "filtered-steps-*",
    "larger-changes-*",
    "gradient-regularization-[ce]*",
    "the-worst-change-*",
    "reng-keeps-*",
    "inexact-inverses-keep-*",
    "stable-jacobian-conditions-*",
    "kantorovich-*",
    "unified-rate-certified-*",
    "runs-are-certified-*",
    "certified-rates-*",
    "zhang-*",
    "monte-carlo-*",
    "*-on-digits-*",
    "damped-inverse-*",
    "every-step-*",
    "fisher-is-the-score-covariance",
    "tridiagonal-*",
)


def failures(run, claims):
    """Ids of the claims that are not as expected, with what was wrong."""
    given = tuple(one.at(FEWER.get(one.id, {})) for one in claims)
    result = run_suite(Suite(given), run)
    return {one.claim.id: (one.problems, one.error) for one in result.results if not one.ok}


def test_the_suite_is_as_expected():
    assert failures(Run(), SUITE.claims) == {}


@pytest.mark.slow
def test_the_suite_is_as_expected_in_float32():
    left_out = {one.id for pattern in NOT_IN_FLOAT32 for one in select(SUITE, [pattern])}
    chosen = [one for one in SUITE.claims if one.id not in left_out]
    assert len(chosen) > 80
    assert failures(Run(dtype="float32"), chosen) == {}


@pytest.mark.slow
def test_the_suite_is_as_expected_on_a_foreign_device():
    # the claims that take seconds in a library without shortcuts to LAPACK stay out
    cheap = (
        "fisher-is-g*",
        "kfac-is-exact-for-*",
        "filter-is-the-exact-*",
        "filter-on-a-*",
        "log-marginal-*",
        "ring-step-*",
        "reng-newton-*",
        "ngd-*",
        "hvp-*",
    )
    run = Run(backend="array_api_strict", device="device1")
    assert failures(run, select(SUITE, cheap)) == {}


# --- claims as data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", SUITE.claims, ids=lambda one: one.id)
def test_each_claim_says_where_it_is_from_and_how_it_could_fail(claim):
    kinds = ("paper", "classical", "our reconstruction", "to be refuted")
    assert any(kind in claim.source for kind in kinds)
    assert claim.doc.startswith(("Fails if", "Would hold"))
    assert "ontrol" in claim.doc  # the planted error is named
    # agreement in floating point certifies nothing: only the claims on certificates may say so
    certified = ("certified",) if Path(claim.place).name.startswith("certificates.py") else ()
    assert claim.expected in ("holds", "refuted", *certified)


def test_claims_use_public_names_only():
    public = {name for name in vars(gr) if not name.startswith("_")}
    for path in sorted(Path(inspect.getfile(load_suite)).parent.glob("claims/*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                assert not node.module.startswith("grng_ref"), path
                assert not any(alias.name.startswith("_") for alias in node.names), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gr":
                assert node.attr in public, f"{path.name}: gr.{node.attr}"


# --- errors planted in the package ---------------------------------------------------------------------
# Each is patched into grng_ref itself; the claims named must notice. Most were once made by a real library.


def halved_fisher(patch):
    right = score.fisher_matrix
    patch.setattr(score, "fisher_matrix", lambda *layers: 0.5 * right(*layers))


def factors_in_the_wrong_order(patch):
    patch.setattr(kfac, "kfac_factors", lambda a, d: kfac_factors(a, d)[::-1])


def backward_factor_over_n_squared(patch):
    def wrong(activations, signals):
        A, G = kfac_factors(activations, signals)
        return A, G / activations.shape[0]

    patch.setattr(kfac, "kfac_factors", wrong)


def refit_left_out(patch):
    right = ekfac._refit

    def wrong(a, d, A, G):
        layer = right(a, d, A, G)
        values = (np.sum(q * (M @ q), axis=0) for q, M in ((layer.g_basis, G), (layer.a_basis, A)))
        return ekfac.EigenbasisLayer(layer.a_basis, layer.g_basis, np.outer(*values))

    patch.setattr(ekfac, "_refit", wrong)


def rank_one_fit_stopped_after_one_round(patch):
    """Two half steps follow, each a least-squares fit: it is a projection, and no farther than K-FAC."""
    patch.setattr(kronecker_optimal, "leading_eigenvector", lambda apply, start, **_: start)


def optimal_product_left_out(patch):
    """K-FAC in the best multiple."""

    def wrong(a, d):
        A, G = kfac_factors(a, d)
        fitted = np.sum(np.sum(d @ G * d, axis=(1, 2)) * np.sum(a @ A * a, axis=1)) / len(a)
        return A, G * fitted / (np.sum(A * A) * np.sum(G * G))

    patch.setattr(kronecker_optimal, "_nearest_factors", wrong)


def damping_raised_in_conjugate_gradients(patch):
    right = base.solve_conjugate_gradient
    patch.setattr(
        base, "solve_conjugate_gradient", lambda f, v, **o: right(lambda x: f(x) + 0.05 * x, v, **o)
    )


def residual_of_the_inverse_understated(patch):
    right = gr.solvers.newton_schulz_inverse

    def wrong(matrix, **options):
        found = right(matrix, **options)
        return dataclasses.replace(found, residual=1e-3 * found.residual)

    patch.setattr(gr.solvers, "newton_schulz_inverse", wrong)


def regularization_left_out_of_factored_damping(patch):
    right = natural.solve

    def wrong(curvature, v, *, damping, damping_kind, **options):
        given = 0.01 if damping_kind == "factored" else damping
        return right(curvature, v, damping=given, damping_kind=damping_kind, **options)

    patch.setattr(natural, "solve", wrong)


def neighbours_over_two(patch):
    def wrong(self, activations, signals):
        made = right(self, activations, signals)
        return dataclasses.replace(made, neighbours=tuple((A / 2, G / 2) for A, G in made.neighbours))

    right = tridiagonal.TridiagonalKFACStructure.build
    patch.setattr(tridiagonal.TridiagonalKFACStructure, "build", wrong)


def neighbours_damped_twice(patch):
    patch.setattr(tridiagonal, "damped_factors", lambda A, G, a: kfac.damped_factors(A, G, 2 * a))


def units_taken_for_inputs(patch):
    def wrong(self, activations, signals):
        inputs, outputs = tuple(d[:, 0, :] for d in signals), tuple(a[:, None, :] for a in activations)
        return right(self, inputs, outputs)

    right = unitwise.UnitwiseStructure.build
    patch.setattr(unitwise.UnitwiseStructure, "build", wrong)


def monte_carlo_over_outputs(patch):
    def wrong(self, f, samples):
        return sampled_gradients(self, f, samples) / f.shape[1] ** 0.5

    patch.setattr(gr.Problem, "_sampled_gradients", wrong)


def classes_taken_for_independent(patch):
    def wrong(self, f):
        root = np.sqrt(self.mean(f) * (1 - self.mean(f)))
        return root[:, :, None] * np.eye(f.shape[1])

    patch.setattr(gr.Categorical, "factor", wrong)


def labels_ignored(patch):
    patch.setattr(gr.Bernoulli, "gradient", lambda self, f, y: self.mean(f) - 0.5)


def sign_of_the_hessian(patch):
    patch.setattr(gr.Problem, "hvp", lambda self, theta, x, y, v: -hvp(self, theta, x, y, v))


def gauss_newton_for_the_hessian(patch):
    patch.setattr(gr.Problem, "hvp", lambda self, theta, x, y, v: gr.fisher(self, theta, x) @ v)


def damping_added_twice(patch):
    def wrong(matrix, v, *, damping, **options):
        return solve_cholesky(matrix, v, damping=2 * damping, **options)

    patch.setitem(DENSE_SOLVERS, "cholesky", wrong)


def damping_dropped(patch):
    def wrong(curvature, v, *, damping, **options):
        return gr.solve(curvature, v, damping=1e-3 * damping, **options)

    patch.setattr("grng_ref.optimizers.natural.solve", wrong)


def norm_not_squared(patch):
    def wrong(gradient_norm, *, rho, damping):
        return damping + rho * gradient_norm

    patch.setattr("grng_ref.optimizers.natural.ring_damping", wrong)


def rows_without_their_root(patch):
    right = gr.Problem.score_rows

    def wrong(self, theta, x, *arguments, **options):
        return right(self, theta, x, *arguments, **options) * x.shape[0] ** 0.5

    patch.setattr(gr.Problem, "score_rows", wrong)


def steps_too_long(patch):
    """Still downhill: the other half of the claim on descent must notice."""
    right = natural.solve

    def wrong(*arguments, **options):
        result = right(*arguments, **options)
        return dataclasses.replace(result, x=100 * result.x)

    patch.setattr(natural, "solve", wrong)


def order_of_the_root_ignored(patch):
    right = gr.inverse_root
    patch.setattr(gr, "inverse_root", lambda matrix, *, order, **options: right(matrix, order=1, **options))


PLANTED = {
    rows_without_their_root: ["fisher-product-is-the-dense-one"],
    steps_too_long: ["every-step-is-a-descent-direction", "ring-step-bounds"],
    halved_fisher: ["fisher-is-gauss-newton", "fisher-on-digits-is-its-definition", "fisher-product-is-*"],
    factors_in_the_wrong_order: ["kfac-factors-are-their-definition", "kfac-is-exact-for-one-example"],
    backward_factor_over_n_squared: ["kfac-factors-are-their-definition", "kfac-is-exact-for-deep-*"],
    refit_left_out: ["refits-are-projections"],
    rank_one_fit_stopped_after_one_round: ["no-kronecker-product-is-nearer-*"],
    optimal_product_left_out: ["no-kronecker-product-is-nearer-*"],
    damping_raised_in_conjugate_gradients: ["every-route-*", "scaled-residual-*", "damped-inverse-keeps-*"],
    residual_of_the_inverse_understated: ["newton-schulz-squares-its-residual"],
    regularization_left_out_of_factored_damping: ["ring-damps-by-*"],
    neighbours_over_two: ["tridiagonal-kfac-agrees-*", "tridiagonal-kfac-is-damped-*"],
    neighbours_damped_twice: ["tridiagonal-kfac-agrees-*", "tridiagonal-kfac-is-damped-*"],
    units_taken_for_inputs: ["unitwise-and-diagonal-*", "refits-are-projections"],
    monte_carlo_over_outputs: ["monte-carlo-fisher-is-unbiased"],
    classes_taken_for_independent: ["fisher-is-gauss-newton", "fisher-is-the-score-covariance"],
    labels_ignored: ["gradient-is-the-slope-of-the-loss", "score-has-zero-mean"],
    sign_of_the_hessian: ["hvp-is-*", "double-backprop-is-one-hvp", "reng-step-is-its-definition"],
    gauss_newton_for_the_hessian: ["hvp-is-*", "reng-step-is-its-definition"],
    damping_added_twice: ["every-route-gives-one-direction", "scaled-residual-of-every-route"],
    order_of_the_root_ignored: ["coupled-newton-*"],
    damping_dropped: ["reng-step-is-its-definition"],
    norm_not_squared: ["ring-damps-by-*", "ring-step-bounds"],
}


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTED, ids=lambda one: one.__name__)
def test_planted_errors_are_caught(plant, monkeypatch):
    assert_caught(plant, PLANTED[plant], monkeypatch)


# --- instances and tolerances --------------------------------------------------------------------------


def test_digits_are_the_real_images():
    images, labels = data.load_digits()
    assert images.shape == (1797, 64)
    assert images.min() == 0.0
    assert images.max() == 1.0
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as published


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(data.importlib, "import_module", missing)
    data.load_digits.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"scikit-learn.*pip install 'grng-ref\[verify\]'"):
        data.load_digits()


def test_an_instance_gives_back_the_numbers_that_the_run_sees():
    run = Run(dtype="float32")
    instance = data.synthetic(run, "gaussian", (3, 2), num_examples=4)
    for ours, host in zip((instance.theta, instance.x, instance.y), instance.host, strict=True):
        assert ours.dtype == np.float32
        assert host.dtype == np.float64
        assert np.array_equal(host.astype(np.float32), ours)
        assert np.array_equal(host, ours.astype(np.float64))


def test_instances_follow_the_seed_and_the_key():
    def theta(seed, key):
        return data.digits(Run(seed=seed), (64, 10), num_examples=2, key=(key,)).host[0]

    assert np.array_equal(theta(0, 1), theta(0, 1))
    assert not np.array_equal(theta(0, 1), theta(0, 2))
    assert not np.array_equal(theta(0, 1), theta(1, 1))


def test_the_small_instances_cover_all_likelihoods_and_activations():
    instances = data.small_instances(Run(), num_examples=3)
    assert {one.likelihood for one in instances} == set(data.LIKELIHOODS)
    activations = {one.architecture["activation"] for one in instances}
    assert activations == {"identity", "relu", "tanh", "sigmoid", "softplus", "gelu", "silu"}
    assert all(np.ptp(one.host[0]) > 0 for one in instances)
    assert {field.name for field in dataclasses.fields(instances[0])} >= {"problem", "theta", "x", "y"}


def test_a_tolerance_that_decides_nothing_is_refused():
    assert roundoff(Run())["tolerance"] == pytest.approx(32 * np.finfo(np.float64).eps)
    assert roundoff(Run(), condition=100.0, terms=4)["tolerance"] == pytest.approx(6400 * 2.0**-52)
    with pytest.raises(ValueError, match="leaves no digit"):
        roundoff(Run(dtype="float32"), condition=1e6)
