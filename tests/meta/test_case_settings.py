"""The shipped cases vary: an adapter that takes a constant for a setting, or for N or K, is seen by them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("jsonschema")

from grng_ref import NumericalError
from grng_ref.testing.conformance.view import SCALES
from grng_ref.testing.vectors import load_cases, reference
from grng_ref.testing.vectors.case import NATURAL, SETTINGS

CASES = load_cases()
OF = {name: [case for case in CASES if case.optimizer["name"] == name] for name in SETTINGS}
# A setting that is off shows little of how it is used: two values are asked for where it is on.
OFF = {"ema": None, "refresh": 1, "momentum": 0.0, "weight_decay": 0.0, "rho": 0.0, "forgetting": 1.0,
       "process_noise": 0.0, "information_increment": 0.0, "iterations": 1, "projection": None,
       "rank": None}  # fmt: skip
FIXED = {("kfac", "damping_kind")}  # K-FAC is always factored
OPTIONS = [
    *((name, "optimizer", key) for name in SETTINGS for key in SETTINGS[name] if (name, key) not in FIXED),
    *((name, "curvature", "kind") for name in (*NATURAL, "rkalman")),
    *((name, "curvature", "structure") for name in ("ngd", "ring", "reng")),
]


def on(cases, part, key):
    """The cases in which a setting acts."""
    return [case for case in cases if getattr(case, part)[key] != OFF.get(key, ...)]


def differs(case, changed):
    """Whether a computation of the changed case gives other numbers, by much more than roundings."""
    try:
        arrays = reference(changed)
    except (ValueError, TypeError, NumericalError) as error:
        # without its draws an adapter fails; another combination that there is not shows nothing
        return "needs samples" in str(error) or "must be None: this step" in str(error)
    for name, array in case.expected.items():
        if name not in arrays:  # a stage that the other computation does not have
            continue
        if array.shape != np.shape(arrays[name]):
            return True
        if np.max(np.abs(array - arrays[name]), initial=0.0) > 1e-9 * np.max(np.abs(array), initial=0.0):
            return True
    return False


def unseen(cases, part, key):
    """The values that may be frozen, in every case in which the setting acts, without being seen."""
    acting = on(cases, part, key)
    values = list(dict.fromkeys(getattr(case, part)[key] for case in acting))

    def seen(value):
        for case in acting:
            if getattr(case, part)[key] != value:
                frozen = {**getattr(case, part), key: value}
                kept = {name: v for name, v in case.schedules.items() if name != key}
                if differs(case, replace(case, **{part: frozen}, schedules=kept)):
                    return True
        return False

    return [value for value in values if not seen(value)] or ([] if values else ["never on"])


@pytest.mark.parametrize(("optimizer", "part", "key"), OPTIONS)
def test_a_frozen_setting_is_seen(optimizer, part, key):
    assert unseen(OF[optimizer], part, key) == []


def test_a_frozen_variance_is_seen():
    cases = [case for case in CASES if case.likelihood["name"] == "gaussian"]
    assert unseen(cases, "likelihood", "variance") == []


@pytest.mark.parametrize("optimizer", SETTINGS)
def test_an_ignored_schedule_is_seen(optimizer):
    changing = [case for case in OF[optimizer] if case.schedules]
    assert changing
    for case in changing:
        for name in case.schedules:
            others = {key: values for key, values in case.schedules.items() if key != name}
            assert differs(case, replace(case, schedules=others)), name


@pytest.mark.parametrize("optimizer", SETTINGS)
def test_factors_of_N_and_K_are_told_apart(optimizer):
    """No two scale factors agree over all cases, and none but constants has one value."""
    sizes = {(case.x.shape[0], case.network["sizes"][-1]) for case in OF[optimizer]}
    values = {name: [scale(n, k) for n, k in sizes] for name, scale in SCALES.items()}
    for one, two in combinations(values, 2):
        assert not np.allclose(values[one], values[two]), (one, two)
    for name, found in values.items():
        assert len(set(found)) > 1 or not set(name) & {"N", "K"}, name


def test_a_catalogue_that_does_not_vary_is_seen():
    """Planted: cases of one damping and one N, as the first set had them for RING and RENG."""
    alike = [case for case in OF["ring"] if case.damping == 0.125 and not case.schedules]
    assert unseen(alike, "optimizer", "damping") == [0.125]
    assert unseen(alike, "optimizer", "rho") == []
