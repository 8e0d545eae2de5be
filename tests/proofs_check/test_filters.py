"""Filters and the worst perturbation: admissible as they say, and right by matrices and by brute force."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from proofs_check.filters import (
    Trials,
    admissible,
    adversarial_search,
    newton_schulz,
    random_trials,
    reng,
    ring,
    step_limit,
)


def is_admissible(s, k):
    rounding = 1e-12
    return (
        (k > 0).all()
        and (k <= 1 + rounding).all()
        and (np.diff(k, axis=-1) >= -rounding).all()
        and (np.diff(k / s, axis=-1) <= rounding * k[:, :1] / s[:, :1]).all()
    )


@pytest.mark.parametrize("size", [1, 2, 5])
def test_random_trials_are_what_the_theorem_asks_for(size):
    trials = random_trials(np.random.default_rng(1), 3000, size)
    assert is_admissible(trials.s, trials.k)
    assert (np.diff(trials.s, axis=-1) >= 0).all()
    assert np.allclose(np.linalg.norm(trials.c, axis=-1), 1, atol=1e-14)
    assert (trials.C < 0.5).all()
    assert (trials.eta <= step_limit(trials.C)).all()
    assert np.mean(trials.eta == step_limit(trials.C)) == pytest.approx(0.5, abs=0.05)
    assert not is_admissible(trials.s, 1.1 * trials.k)


def test_a_search_stays_admissible_and_comes_nearer():
    rng = np.random.default_rng(2)
    trials = random_trials(rng, 200, 3)
    found = adversarial_search(rng, trials, 100)
    assert is_admissible(found.s, found.k)
    assert np.array_equal(found.eta, trials.eta)
    assert np.array_equal(found.C, trials.C)

    def nearness(one):
        return one.excess / (one.eta * one.q)

    assert np.median(nearness(found)) > 0.5 * np.median(nearness(trials))  # both negative


def test_the_filters_by_hand():
    s = np.array([[1.0, 3.0]])
    assert np.array_equal(ring(s, 1.0), [[0.5, 0.75]])
    # 1 - (1 - 1/2)^2 and 1 - (1 - 1)^2 of 1/2 and 3/4 at t = 4, one step
    assert np.allclose(newton_schulz(s, 1.0, 4.0, 1), [[0.375, 0.75]], rtol=1e-15)
    assert np.allclose(newton_schulz(s, 1.0, 4.0, 60), ring(s, 1.0), rtol=1e-15)
    assert np.allclose(reng(s, np.array([[1.0]])), [[0.5, 1.0]], rtol=1e-15)
    grown = admissible(s, np.array([0.25]), np.array([[0.5]]))
    assert np.allclose(grown, [[0.25, 0.25 * 3**0.5]], rtol=1e-15)
    assert admissible(s, np.array([0.5]), np.array([[1.0]]))[0, 1] == 1.0  # never beyond one


def test_the_worst_step_by_matrices():
    rng = np.random.default_rng(3)
    trials = Trials(
        s=np.array([[2.0, 5.0]]),
        k=np.array([[0.4, 0.7]]),
        c=np.array([[0.6, 0.8]]),
        eta=np.array([0.9]),
        C=np.array([0.3]),
    )
    J = np.diag([2.0, 5.0]) ** 0.5
    delta = -0.9 * J.T @ np.diag([0.4 / 2, 0.7 / 5]) @ np.array([0.6, 0.8])
    assert trials.step[0] == pytest.approx(np.linalg.norm(delta), rel=1e-15)
    assert trials.q[0] == pytest.approx(0.36 * 0.4 + 0.64 * 0.7, rel=1e-15)
    largest = 0.0
    for angle in np.linspace(0, 2 * np.pi, 2001):
        E = 0.3 * 2**0.5 * np.outer([np.cos(angle), np.sin(angle)], delta / np.linalg.norm(delta))
        largest = max(largest, np.linalg.norm(np.array([0.6, 0.8]) + (J + E) @ delta))
    assert trials.worst[0] == pytest.approx(largest, rel=1e-6)
    assert trials.excess[0] == pytest.approx(trials.worst[0] ** 2 - (1 - 0.9 * trials.q[0]), abs=1e-15)
    random = rng.normal(size=(200, 2, 2))
    random *= 0.3 * 2**0.5 / np.linalg.norm(random, 2, axis=(1, 2))[:, None, None]
    moved = np.array([0.6, 0.8]) + (J + random) @ delta
    assert np.linalg.norm(moved, axis=1).max() <= trials.worst[0]


def test_the_limit_of_the_step_is_where_the_rate_is_attained():
    C = np.array([0.05, 0.3, 0.49])
    one = np.ones((3, 1))
    at_limit = Trials(one, one, one, step_limit(C), C)
    assert np.allclose(at_limit.excess, 0, atol=1e-15)
    beyond = dataclasses.replace(at_limit, eta=1.01 * at_limit.eta)
    assert (beyond.excess > 1e-6).all()
