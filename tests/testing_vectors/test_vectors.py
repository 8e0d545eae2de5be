"""The shipped test vectors: coverage, radii, and that planted errors leave them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flint")
pytest.importorskip("safetensors")
jsonschema = pytest.importorskip("jsonschema")

from grng_ref.cli.vectors import export_vectors, verify_vectors  # noqa: E402
from grng_ref.testing import vectors  # noqa: E402
from grng_ref.testing.vectors import (  # noqa: E402
    CATALOGUE,
    STAGES,
    build_case,
    certify,
    load_cases,
    reference,
    uncertified,
)
from grng_ref.testing.vectors.case import SETTINGS  # noqa: E402

DATA = Path(vectors.__file__).parent
CASES = {case.id: case for case in load_cases()}
SOME = (
    "kfac-baseline",
    "reng-gelu-categorical",
    "rkalman-block-diagonal",
    "sophia-h",
    "ring-tridiagonal-kfac",
)


def test_the_set_is_the_catalogue():
    assert list(CASES) == [row.id for row in CATALOGUE]


def test_every_value_of_each_kind_occurs():
    def values(part, key):
        return {getattr(case, part)[key] for case in CASES.values()}

    assert values("network", "activation") == {
        *("identity", "relu", "tanh", "sigmoid", "softplus", "gelu", "silu"),
    }
    assert values("likelihood", "name") == {"gaussian", "categorical", "bernoulli", "poisson"}
    assert values("curvature", "kind") == {"expected", "monte_carlo", "empirical"}
    assert values("optimizer", "name") == set(SETTINGS)
    assert len(values("curvature", "structure")) == 8
    assert {name for case in CASES.values() for name in case.stages} == {stage.name for stage in STAGES}
    flags = {flag for case in CASES.values() for flag in case.flags}
    assert flags >= {
        *("one-example", "one-output", "saturated", "dead-relu", "rank-deficient", "near-zero-damping"),
        *("tiny-scale", "huge-scale", "no-bias", "ntk", "frozen", "float64-only"),
    }


def test_nine_tenths_of_the_arrays_have_a_radius_and_the_others_a_reason():
    radii = [(case, name) for case in CASES.values() for name in case.expected]
    without = [(case, name) for case, name in radii if case.radii[name] is None]
    assert len(without) <= 0.1 * len(radii)
    assert all(case.reasons[name] for case, name in without)


def test_flags_hold():
    case = CASES["dead-relu"]
    assert np.all(case.stage("activations")[1][:, 0] == 0.0)
    assert np.max(np.abs(CASES["saturated-categorical"].stage("outputs"))) > 30.0
    for name in ("rank-deficient", "near-zero-damping", "one-example"):
        fisher = CASES[name].stage("fisher")
        assert np.linalg.matrix_rank(fisher) < len(fisher)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_inputs_are_float32_numbers(case):
    for array in case.inputs.values():
        assert array.dtype == np.int64 or np.array_equal(array, array.astype(np.float32))
    assert all(np.all(np.isfinite(array)) for array in case.expected.values())


@pytest.mark.parametrize("name", CASES)
def test_reference_computes_it_again(name):
    # Twice the radius: the stored number and this machine's may be on two sides of the true value; and where
    # another BLAS rounds otherwise, its error may be some times as large, so 64 units in the last place more.
    case = CASES[name]
    for key, array in reference(case).items():
        stored, radius = case.expected[key], case.radii[key]
        assert stored.shape == np.shape(array)
        assert radius is None or radius.shape == stored.shape
        slack = 64 * np.finfo(np.float64).eps * np.max(np.abs(stored), initial=0.0)
        room = (0.0 if radius is None else 16.0 * radius) + slack * (1.0 if radius is not None else 1e4)
        assert np.all(np.abs(array - stored) <= room), key


@pytest.mark.parametrize("name", SOME)
def test_the_documented_command_makes_the_shipped_inputs(name):
    row = next(row for row in CATALOGUE if row.id == name)
    made = build_case(row)
    for key, array in CASES[name].inputs.items():
        assert np.array_equal(made.inputs[key], array), key


@pytest.mark.parametrize("name", SOME)
def test_planted_errors_leave_the_radii(name):
    case = CASES[name]
    assert uncertified(case) == []
    for key in case.expected:
        wrong = case.expected[key].copy()
        size = np.max(np.abs(wrong)) or 1.0
        wrong.flat[-1] += 1e-12 * size  # thousands of units in the last place
        assert uncertified(replace(case, expected={**case.expected, key: wrong})) == [key]


def test_radius_too_small_is_not_proved():
    case = CASES["kfac-baseline"]
    radii = {**case.radii, "gradient": 0.25 * case.radii["gradient"]}
    assert uncertified(replace(case, radii=radii)) == ["gradient"]


def test_a_radius_that_was_taken_away_is_missed():
    case = CASES["kfac-baseline"]
    radii, reasons = {**case.radii, "gradient": None}, {**case.reasons, "gradient": "too hard"}
    assert uncertified(replace(case, radii=radii, reasons=reasons)) == ["gradient"]


@pytest.mark.parametrize(
    "name",
    [
        "ngd-silu-bernoulli",
        "reng-gelu-categorical",
        "reng-softplus-bernoulli",
        "saturated-categorical",
        "frozen-first",
    ],
)
def test_hessian_in_balls_by_differences(name):
    """H v of the second implementation against central differences of the gradient."""
    case = CASES[name]
    problem, h = case.problem(), 2.0**-17
    ends = [problem.gradient(case.theta + s * h * case.v, case.x, case.y) for s in (1.0, -1.0)]
    difference = (ends[0] - ends[1]) / (2.0 * h)
    certified = certify(case)
    # h^2 times a third derivative of order 1e2, and eps / h
    assert np.allclose(certified.expected["hvp"], difference, atol=1e-6 * (1.0 + np.max(np.abs(difference))))
    assert np.max(certified.radii["hvp"]) < 1e-12 * (1.0 + np.max(np.abs(difference)))


def test_loss_is_a_number_without_axes():
    assert {case.stage("loss").shape for case in CASES.values()} == {()}


def test_schema_is_one():
    schema = json.loads((DATA / "manifest.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)


def test_commands(tmp_path, capsys):
    made = tmp_path / "fresh"
    assert export_vectors(made, 11, ("sgd-plain", "kfac-baseline")) == 0
    assert verify_vectors(made) == 0
    assert "2 cases" in capsys.readouterr().out
    assert export_vectors(made, 11, ("sgd-plain",)) == 2  # exists
    assert export_vectors(tmp_path / "other", 11, ("no-such-case",)) == 2
    assert verify_vectors(tmp_path / "nothing") == 2
    path = made / "sgd-plain.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert verify_vectors(made) == 1
    assert "checksum" in capsys.readouterr().err


def test_stage_of_several_arrays():
    case = CASES["kfac-baseline"]
    (A, G), *_ = case.stage("factors")
    assert A.shape == G.shape == (3, 3)
    assert len(case.stage("activations")) == 2
    with pytest.raises(KeyError, match="has no stage 'belief_mean'"):
        case.stage("belief_mean")
