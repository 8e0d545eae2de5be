"""Certificates changed by hand: what says more than was proved is refused, field by field."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from two_layer_case import network

import grng_ref as gr
from proofs_check.bounds.serialise import number_from_json
from proofs_check.certificates import (
    certificate_from_json,
    check_certificate,
    kantorovich,
    linear,
    unified,
    zhang_condition_1,
    zhang_condition_2,
)

# --- a theorem that is about something else --------------------------------------------------------------


def forged(found, **parts):
    """A certificate whose theorem does not apply, or whose evidence is not what the theorem asks for."""
    return dataclasses.replace(found, **parts)


def test_the_checker_wants_the_quantity_that_the_theorem_is_about():
    """The Lipschitz constant itself, in the place of the change on a ball, does not grow with it."""
    at = network(size=0.02)
    found, constant = linear(*at, eta=0.5), kantorovich(*at).evidence[-1]
    assert constant.quantity == "jacobian_lipschitz"
    change = found.evidence[-1]
    for wrong in (constant._replace(radius=change.radius), change._replace(radius=None)):
        certificate = forged(found, evidence=(*found.evidence[:-1], wrong))
        assert "radius" in check_certificate(certificate, *at).reason


def test_the_checker_wants_the_squared_loss(monkeypatch):
    problem, theta, x, _ = network(size=0.02)
    fitted = gr.Problem(problem.model, gr.Bernoulli())
    y = np.array([[0.0], [1.0], [1.0]])
    monkeypatch.setattr("proofs_check.certificates.point.Point.unfit", "")
    found = kantorovich(fitted, theta, x, y)
    assert found.verdict != "undecided"
    assert "squared loss" in check_certificate(found, fitted, theta, x, y).reason
    halved, y = gr.Problem(problem.model, gr.Gaussian(variance=2.0)), network(size=0.02)[3]
    found = linear(halved, theta, x, y)
    assert found.verdict == "certified"
    assert "squared loss" in check_certificate(found, halved, theta, x, y).reason


@pytest.mark.parametrize("theorem", [kantorovich, unified, linear])
def test_the_checker_refuses_negative_settings_and_numbers(theorem):
    at = network(size=0.02)
    found = theorem(*at, eta=0.5, rho=0.1)
    for settings in ({"lam": -1.0}, {"rho": -0.1}, {"eta": -0.5}):
        certificate = forged(found, settings=found.settings._replace(**settings))
        assert not check_certificate(certificate, *at).holds
    assert check_certificate(found, *at).holds
    negative = forged(found, numbers={**found.numbers, "s": -found.numbers["s"]})
    assert "s is not on the safe side" in check_certificate(negative, *at).reason
    fewer = forged(found, numbers={"s": found.numbers["s"]})
    assert "cannot be read" in check_certificate(fewer, *at).reason


def test_a_condition_without_a_rate_can_be_given_none():
    at = network("relu", size=1e-9)
    for condition in (zhang_condition_1, zhang_condition_2):
        found = condition(*at)
        assert found.verdict == "certified"
        certificate = forged(found, numbers=dict(linear(*at).numbers))
        assert "no rate" in check_certificate(certificate, *at).reason


def test_no_residual_is_promised_beyond_the_root_of_the_parabola():
    """Where ``s^2 < 2 L h`` by their roundings, and where a number was put on the safe side by hand."""
    at = network(size=0.02)
    found = kantorovich(*at)
    s, h = found.numbers["s"], found.numbers["h"]
    numbers = {**found.numbers, "L": s**2 / (2 * h) * (1 + 1e-12)}
    promised = forged(found, numbers=numbers).guarantee(60)
    assert all(0.0 <= after <= before for before, after in itertools.pairwise(promised))
    worse = forged(found, numbers={**found.numbers, "s": s / 50}).guarantee(6)
    assert check_certificate(forged(found, numbers={**found.numbers, "s": s / 50}), *at).holds
    assert all(ours <= theirs for ours, theirs in zip(found.guarantee(6), worse, strict=True))


# --- every field -----------------------------------------------------------------------------------------

CERTIFICATES = {
    "kantorovich": lambda: kantorovich(*network(n=2, width=8, size=0.01), eta=0.5, rho=0.5, lam=1e-4),
    "kantorovich refuted": lambda: kantorovich(*network(n=2, width=8, size=50.0)),
    "unified": lambda: unified(*network(n=2, width=8, size=0.01), eta=0.5, rho=0.5),
    "linear": lambda: linear(*network("relu", n=2, width=8, size=1e-9), eta=0.5, lam=1e-3),
    "linear refuted": lambda: linear(*network("relu", n=2, width=8, size=9.0), eta=0.5),
    "zhang 1": lambda: zhang_condition_1(*network(n=2, width=8)),
    "zhang 2": lambda: zhang_condition_2(*network(n=2, width=8, size=1e-3)),
    "zhang 2 refuted": lambda: zhang_condition_2(*network("relu", n=2, width=8)),
}


def leaves(value, path=()):
    """The places of all texts, numbers and truth values, but for those of the network and the witnesses."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name not in ("kind", "instance", "witness", "detail", "name", "method"):
                yield from leaves(item, (*path, name))
    elif isinstance(value, list):
        for k, item in enumerate(value):
            yield from leaves(item, (*path, k))
    elif value is not None:
        yield path, value


def put(stored, path, value):
    changed = copy.deepcopy(stored)
    at = changed
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return changed


def edits(path, value):
    if isinstance(value, bool):
        return [not value]
    if path[-1] == "theorem":
        return ["kantorovich", "unified", "linear", "zhang-condition-1", "zhang-condition-2"]
    if path[-1] == "quantity":
        return ["gram_min", "gram_max", "residual_norm", "jacobian_lipschitz", "jacobian_change"]
    if isinstance(value, str):
        return [1.0] if value == "inf" else [value[::-1]]
    return [2 * value, value / 2, -value, 1.0, 0.0, value * (1 + 1e-9), value * (1 - 1e-9), "inf"]


def says_less(path, old, new, verdict):
    """Whether the edit leaves a true certificate: a weaker side, or what no certificate is about."""
    if path[0] in ("step", "after_run"):  # how the floats came there: about the point alone
        return True
    if path[0] == "evidence" and path[-1] == "rigorous":  # and it is proved again
        return new is False
    if isinstance(old, bool):
        return False
    old, new = number_from_json(old), number_from_json(new)
    if path[-1] in ("lower", "upper"):
        return new < old if path[-1] == "lower" else new > old
    if path[-1] == "radius":  # the change is proved on that ball: of a larger one more, of a witness less
        return new > old if verdict == "certified" else new < old
    if path[0] == "numbers" and verdict == "refuted":  # they are of a guarantee, and it gives none
        return True
    if path[0] == "numbers":
        return new < old if path[-1] == "s" else path[-1] != "n" and new > old
    return path[0] == "settings" and path[1] in (1, 2)  # any rho and lam, in the balls of two theorems


@pytest.mark.slow
@pytest.mark.parametrize("name", CERTIFICATES)
def test_no_edit_of_a_field_says_more_and_passes(name):
    found = CERTIFICATES[name]()
    stored = json.loads(json.dumps(found.to_json()))
    assert found.verdict == ("refuted" if name.endswith("refuted") else "certified")
    refused = passed = 0
    for path, old in leaves(stored):
        for new in edits(path, old):
            if new == old:
                continue
            try:
                changed = certificate_from_json(put(stored, path, new))
            except (TypeError, ValueError):
                refused += 1
                continue
            if changed.verdict == "undecided":
                continue
            if not check_certificate(changed, *changed.instance).holds:
                refused += 1
                continue
            passed += 1
            assert says_less(path, old, new, found.verdict), (path, old, new)
            if path[0] == "settings":
                assert changed.verdict == "refuted" or changed.theorem in ("unified", "linear")
    assert refused > 2 * passed


@pytest.mark.parametrize("name", ["kantorovich", "linear", "zhang 2 refuted"])
def test_a_dropped_field_is_refused(name):
    found = CERTIFICATES[name]()
    stored = json.loads(json.dumps(found.to_json()))

    def dropped(value, path=()):
        """The paths of all fields, those of the instance's arrays too."""
        if not isinstance(value, dict | list):
            return
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from dropped(item, (*path, key))

    for path in dropped(stored):
        changed = copy.deepcopy(stored)
        at = changed
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]
        if "witness" in path or "base64" in path:
            continue
        try:
            read = certificate_from_json(changed)
        except (TypeError, ValueError):
            continue
        if read.verdict != "undecided" and read.instance is not None:
            assert not check_certificate(read, *read.instance).holds, path


@pytest.mark.parametrize("part", ["theta", "x", "y"])
def test_any_bit_of_the_instance_is_part_of_the_certificate(part):
    found = CERTIFICATES["kantorovich"]()
    arrays = {name: getattr(found.instance, name).copy() for name in ("theta", "x", "y")}
    for k in range(arrays[part].size):
        array = arrays[part].copy()
        array.flat[k] = math.nextafter(array.flat[k], math.inf)
        at = {**arrays, part: array}
        reason = check_certificate(found, found.instance.problem, at["theta"], at["x"], at["y"]).reason
        assert "another point" in reason


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "sigmoid"},
        {"likelihood": "bernoulli"},
        {"variance": 2.0},
        {"bias": True},
        {"scales": [1.0, 1.0]},
        {"sizes": [4, 4, 1]},
        {"parameterization": "standard", "scales": None},
    ],
)
def test_another_problem_is_refused(change):
    stored = json.loads(json.dumps(CERTIFICATES["kantorovich"]().to_json()))
    stored["instance"]["problem"].update(change)
    if change.get("likelihood"):
        del stored["instance"]["problem"]["variance"]
    try:
        changed = certificate_from_json(stored)
    except ValueError:
        return
    try:
        assert not check_certificate(changed, *changed.instance).holds
    except (TypeError, gr.NumericalError):  # of the network itself, which does not fit its weights
        return
