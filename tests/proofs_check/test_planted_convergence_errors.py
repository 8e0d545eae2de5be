"""Errors planted in the package and in the constants of the theorems: claims on convergence notice them."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest
from planted import assert_caught

import grng_ref as gr
from grng_ref.curvature import kfac
from grng_ref.models import activations
from proofs_check import bounds, filters
from proofs_check.claims import (
    majorant,
    order_of_convergence,
    residual_curvature,
    stability,
    unified_networks,
    unified_rate,
)

pytestmark = pytest.mark.slow

# the modules: the packages export functions of the same name
NATURAL = importlib.import_module("grng_ref.optimizers.natural")
RKALMAN = importlib.import_module("grng_ref.optimizers.rkalman")

# the right ones, for the wrong ones to call
solve, kfac_factors, hvp = NATURAL.solve, gr.kfac_factors, gr.Problem.hvp
natural_direction, two_layer, draw = gr.natural_direction, gr.two_layer, gr.MLP.init
inverse, predict = gr.solvers.newton_schulz_inverse, RKALMAN.RKalman._predict
lipschitz, bending = bounds.jacobian_lipschitz, bounds.slope_lipschitz
worst, relu = filters.Trials.worst, activations.ACTIVATIONS["relu"]


def norm_not_squared(patch):
    patch.setattr(NATURAL, "ring_damping", lambda norm, *, rho, damping: damping + rho * norm)


def damping_that_does_not_vanish(patch):
    patch.setattr(NATURAL, "ring_damping", lambda norm, *, rho, damping: damping + rho)


def damping_dropped(patch):
    def wrong(curvature, v, *, damping, **options):
        return solve(curvature, v, damping=1e-3 * damping, **options)

    patch.setattr(NATURAL, "solve", wrong)


def steps_a_tenth_too_long(patch):
    def wrong(*arguments, **options):
        result = solve(*arguments, **options)
        return dataclasses.replace(result, x=1.1 * result.x)

    patch.setattr(NATURAL, "solve", wrong)


def direction_a_tenth_too_long(patch):
    patch.setattr(gr, "natural_direction", lambda *a, **o: 1.1 * natural_direction(*a, **o))


def backward_factor_over_n_squared(patch):
    def wrong(inputs, signals):
        A, G = kfac_factors(inputs, signals)
        return A, G / inputs.shape[0]

    patch.setattr(kfac, "kfac_factors", wrong)


def one_iteration_more(patch):
    def wrong(matrix, *, max_iterations):
        return inverse(matrix, max_iterations=max_iterations + 1)

    patch.setattr(gr.solvers, "newton_schulz_inverse", wrong)


def sign_of_the_hessian(patch):
    patch.setattr(gr.Problem, "hvp", lambda self, theta, x, y, v: -hvp(self, theta, x, y, v))


def gauss_newton_for_the_hessian(patch):
    patch.setattr(gr.Problem, "hvp", lambda self, theta, x, y, v: gr.fisher(self, theta, x) @ v)


def relu_with_curvature(patch):
    bent = dataclasses.replace(relu, second=lambda z: 0 * z + 1)
    patch.setitem(activations.ACTIVATIONS, "relu", bent)


def relu_that_leaks(patch):
    leaky = dataclasses.replace(relu, first=lambda z: relu.first(z) + 0.2 * relu.first(-z))
    patch.setitem(activations.ACTIVATIONS, "relu", leaky)


def second_derivatives_doubled(patch):
    for name in ("tanh", "softplus", "sigmoid", "gelu", "silu"):
        right = activations.ACTIVATIONS[name]
        wrong = dataclasses.replace(right, second=lambda z, right=right: 2 * right.second(z))
        patch.setitem(activations.ACTIVATIONS, name, wrong)


def output_over_the_width(patch):
    def wrong(d, m, *arguments):
        return dataclasses.replace(two_layer(d, m, *arguments), scales=(1.0, 1 / m))

    patch.setattr(gr, "two_layer", wrong)


def weights_stretched_along_one_input(patch):
    def wrong(self, rng=0, **options):
        theta = draw(self, rng, **options)
        return theta * np.resize(np.array([4.0, *[1.0] * (self.sizes[0] - 1)]), theta.shape)

    patch.setattr(gr.MLP, "init", wrong)


def forgetting_by_the_root(patch):
    def wrong(self, theta, state):
        return predict(dataclasses.replace(self, forgetting=self.forgetting**0.5), theta, state)

    patch.setattr(RKALMAN.RKalman, "_predict", wrong)


def lipschitz_constant_too_small(patch):
    for module in (order_of_convergence, stability):
        patch.setattr(module, "jacobian_lipschitz", lambda *arguments: smaller(lipschitz(*arguments), 1 / 50))


def bounds_of_the_curvature_too_small(patch):
    patch.setattr(residual_curvature, "slope_lipschitz", lambda name: smaller(bending(name), 0.98))


def smaller(bound, factor):
    return dataclasses.replace(bound, lower=0.0, upper=factor * bound.upper)


def a_longer_step_admitted(patch):
    patch.setattr(filters, "step_limit", lambda C: (1 - 2 * C) / (1 - C) ** 3)


def a_shorter_step_admitted(patch):
    patch.setattr(unified_networks, "step_limit", lambda C: 1 - 2 * C)


def half_of_the_worst_perturbation(patch):
    def wrong(self):
        return worst.fget(dataclasses.replace(self, C=self.C / 2))

    patch.setattr(filters.Trials, "worst", property(wrong))


def damping_counted_twice(patch):
    patch.setattr(unified_rate, "ring", lambda s, nu: filters.ring(s, 2 * nu))


def parabola_without_its_half(patch):
    patch.setattr(majorant.Parabola, "value", lambda self, t: self.L * t**2 - self.s * t + self.h)


PLANTED = {
    norm_not_squared: ["optimizers-filter-*", "a-quadratic-network-*", "network-runs-*"],
    damping_that_does_not_vanish: ["ring-has-order-*", "optimizers-filter-*", "one-step-at-eta-one-*"],
    damping_dropped: ["ring-at-rho-star-*", "ngd-diverges-*", "optimizers-filter-*", "a-quadratic-*"],
    steps_a_tenth_too_long: ["smooth-runs-*", "the-affine-*", "kfac-in-*", "layerwise-*", "reng-in-*"],
    direction_a_tenth_too_long: ["ngd-attains-*"],
    backward_factor_over_n_squared: ["kfac-in-*", "layerwise-*"],
    one_iteration_more: ["optimizers-filter-*", "newton-schulz-needs-*"],
    sign_of_the_hessian: ["reng-in-*", "reng-contracts-*", "finite-difference-*"],
    gauss_newton_for_the_hessian: ["reng-in-*", "finite-difference-*"],
    relu_with_curvature: ["hessian-is-the-fisher-for-relu-*", "reng-in-*"],
    relu_that_leaks: ["relu-gram-matrix-has-*", "relu-gram-matrix-fluctuates-*"],
    second_derivatives_doubled: ["residual-curvature-*", "reng-in-*", "finite-difference-*"],
    output_over_the_width: ["relu-gram-matrix-has-*", "relu-gram-matrix-fluctuates-*"],
    weights_stretched_along_one_input: ["relu-gram-matrix-has-*", "relu-gram-matrix-fluctuates-*"],
    forgetting_by_the_root: ["a-repeated-batch-*"],
    lipschitz_constant_too_small: ["one-step-at-eta-one-*", "a-step-from-anywhere-*", "ring-at-rho-star-*"],
    bounds_of_the_curvature_too_small: ["residual-curvature-*"],
    a_longer_step_admitted: ["filtered-steps-keep-*"],
    a_shorter_step_admitted: ["ngd-attains-*"],
    half_of_the_worst_perturbation: ["the-worst-change-*"],
    damping_counted_twice: ["gradient-regularization-costs-*"],
    parabola_without_its_half: ["a-quadratic-network-*"],
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda one: one.__name__)
def test_a_planted_error_is_caught(plant, monkeypatch):
    assert_caught(plant, PLANTED[plant], monkeypatch)
