"""Records of proofs: what comes back from JSON bit by bit, and that a changed record is refused."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from two_layer_case import network
from typer.testing import CliRunner

import grng_ref as gr
from proofs_check import Finding, Run, cli, decided, load_suite, run_suite, to_record
from proofs_check.bounds import Bound, Proof, prove
from proofs_check.bounds.check import CHECKERS
from proofs_check.bounds.proof import ARGUMENTS
from proofs_check.bounds.serialise import (
    array_from_json,
    array_to_json,
    number_from_json,
    number_to_json,
    problem_from_json,
    problem_to_json,
)
from proofs_check.certificates import (
    certificate_from_json,
    check_certificate,
    kantorovich,
    linear,
    unified,
    zhang_condition_1,
    zhang_condition_2,
)
from proofs_check.report.record import _digest
from proofs_check.report.tables import _TEX as TEX
from proofs_check.report.tables import to_tex
from proofs_check.verify import PROVED, REFUSED, UNCHECKED, verify

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "stable_jacobian.py"


def again(value):
    return json.loads(json.dumps(value, allow_nan=False))


# --- round trips ---------------------------------------------------------------------------------------

FLOATS = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan, 1 / 3]


def test_floats_keep_every_bit():
    back = [number_from_json(again(number_to_json(value))) for value in FLOATS]
    assert np.array(back).tobytes() == np.array(FLOATS).tobytes()
    array = array_from_json(again(array_to_json(np.array(FLOATS).reshape(2, 4))))
    assert array.shape == (2, 4)
    assert array.tobytes() == np.array(FLOATS).tobytes()
    assert array_from_json(array_to_json(np.float32([0.1, 2]))).tolist() == [float(np.float32(0.1)), 2.0]
    labels = array_from_json(array_to_json(np.array([2, 0])))
    assert (labels.dtype, labels.tolist()) == (np.int64, [2, 0])
    assert array_from_json(array_to_json(np.asfortranarray(np.arange(6.0).reshape(2, 3)))).tolist() == [
        [0.0, 1.0, 2.0],
        [3.0, 4.0, 5.0],
    ]


@pytest.mark.parametrize(
    "spoil",
    [
        {"shape": [3]},
        {"shape": [-1, -2]},
        {"shape": [2.0]},
        {"dtype": "float16"},
        {"base64": "!"},
        {"base64": "AAAA"},
        {"more": 1},
    ],
)
def test_a_spoiled_array_is_refused(spoil):
    with pytest.raises(ValueError, match="array"):
        array_from_json({**array_to_json(np.zeros(2)), **spoil})


def test_bounds_come_back_as_they_were():
    witness = {"vector": list(map(float, range(20))), "neurons": list(range(20)), "pair": [1.0, 2.0], "n": 3}
    for bound in (
        Bound(-math.inf, math.inf, True, "nothing"),
        Bound(0.1, 1 / 3, False, "a run", {"w": [[0.1] * 9] * 2, "mixed": [1, 2.0] * 9, "text": "t"}),
        Bound(0.0, 5e-324, True, "m", witness),
    ):
        back = Bound.from_json(again(bound.to_json()))
        assert back == bound
        assert repr(back) == repr(bound)
    with pytest.raises(ValueError, match="lower must be <= upper"):
        Bound.from_json({**bound.to_json(), "lower": "inf"})


def test_problems_come_back_with_the_same_outputs():
    frozen = {0: np.random.default_rng(1).normal(size=(5, 4))}
    for problem in (
        gr.Problem(gr.MLP((3, 5, 2), activation="gelu", frozen=frozen), gr.Categorical()),
        gr.Problem(gr.MLP((3, 5, 1), bias=False, parameterization="ntk"), gr.Gaussian(variance=0.3)),
        gr.Problem(gr.two_layer(3, 7, "relu"), gr.Gaussian()),
    ):
        back = problem_from_json(again(problem_to_json(problem)))
        theta, x = problem.init(rng=0), np.random.default_rng(2).normal(size=(4, 3))
        assert np.array_equal(back.outputs(theta, x), problem.outputs(theta, x))
        assert type(back.likelihood) is type(problem.likelihood)
        assert problem_to_json(back) == problem_to_json(problem)

    class Mine(gr.Gaussian):
        pass

    with pytest.raises(TypeError, match="only the package's likelihoods can be stored, got Mine"):
        problem_to_json(gr.Problem(problem.model, Mine()))


CERTIFICATES = {
    "kantorovich": lambda: kantorovich(*network(size=0.02), eta=0.5, rho=1.0, lam=1e-3),
    "kantorovich refuted": lambda: kantorovich(*network(size=50.0)),
    "unified": lambda: unified(*network(size=0.02), eta=0.5, rho=1.0),
    "linear": lambda: linear(*network("relu", size=1e-9), eta=0.5),
    "zhang 1": lambda: zhang_condition_1(*network()),
    "zhang 2": lambda: zhang_condition_2(*network("relu")),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificates_come_back_and_are_proved_again(name):
    found = CERTIFICATES[name]()
    back = certificate_from_json(again(found.to_json()))
    assert back.to_json() == found.to_json()
    assert (back.assumptions, back.evidence, back.settings) == (
        found.assumptions,
        found.evidence,
        found.settings,
    )
    assert all(np.array_equal(getattr(back.instance, k), getattr(found.instance, k)) for k in ("theta", "x"))
    assert check_certificate(back, *back.instance).holds


@pytest.mark.parametrize("name", CERTIFICATES)
def test_every_stated_number_that_says_too_much_is_refused(name):
    """Each side of each assumption, a little beyond what the evidence shows, and each limit."""
    found = CERTIFICATES[name]()
    tried = 0
    for k in range(len(found.assumptions)):
        for side in ("lower", "upper"):
            stored = again(found.to_json())
            bound = stored["assumptions"][k]["bound"]
            other = "upper" if side == "lower" else "lower"
            value = number_from_json(bound[side])
            if not math.isfinite(value) or (side == "upper" and value == 0.0):
                continue
            # three places: a side may be rounded outwards twice
            for _ in range(3):
                value = math.nextafter(value, math.inf if side == "lower" else -math.inf)
            if side == "upper":
                bound["lower"] = min(number_from_json(bound["lower"]), value)
            else:
                bound[other] = number_to_json(max(number_from_json(bound[other]), value))
            bound[side] = number_to_json(value)
            changed = certificate_from_json(stored)
            if changed.verdict == "undecided":
                continue
            tried += 1
            assert not check_certificate(changed, *changed.instance).holds, (k, side)
        stored = again(found.to_json())
        stored["assumptions"][k]["limit"] *= 1.5
        changed = certificate_from_json(stored)
        assert changed.verdict == "undecided" or not check_certificate(changed, *changed.instance).holds
    assert tried or name == "zhang 1"


# --- records -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record():
    suite = load_suite()
    only = ["kantorovich-certified*", "zhang-condition-2*"]
    return again(to_record(run_suite(suite, only=only)))


@pytest.fixture(scope="module")
def hers():
    return again(to_record(run_suite(load_suite(HOWTO), sweep={"width": (64, 128)}, seeds=2)))


def outcomes(record):
    return [one.outcome for one in verify(record)]


def test_a_record_is_proved_again(record, hers):
    assert outcomes(record) == [PROVED] * 4
    assert outcomes(hers) == [PROVED] * 8


def replaced(record, old, change):
    """The record with one stored array changed, under a digest of its own."""
    array = array_from_json(record["arrays"][old])
    stored = array_to_json(change(array))
    new = _digest(stored)
    text = json.dumps({**record, "arrays": {**record["arrays"], new: stored}})
    return json.loads(text.replace(json.dumps({"array": old}), json.dumps({"array": new})))


def nudged(array):
    array.flat[0] = np.nextafter(array.flat[0], np.inf)
    return array


@pytest.mark.parametrize("name", ["theta", "x", "y"])
def test_another_instance_is_refused(record, name):
    digest = record["claims"][0]["proofs"][0]["instance"][name]["array"]
    found = list(verify(replaced(record, digest, nudged)))
    assert found[0].outcome == REFUSED
    assert "another point or other data" in found[0].reason


def test_a_witness_outside_its_ball_is_refused(record):
    proof = record["claims"][1]["proofs"][0]
    digest = proof["evidence"][-1]["bound"]["witness"]["weights"]["array"]
    found = list(verify(replaced(record, digest, lambda w: 10 * w)))
    assert found[2].outcome == REFUSED
    assert "outside its ball" in found[2].reason


def test_bytes_that_are_not_those_of_their_digest_are_refused(record):
    spoiled = copy.deepcopy(record)
    digest = spoiled["claims"][0]["proofs"][0]["instance"]["theta"]["array"]
    data = spoiled["arrays"][digest]["base64"]
    spoiled["arrays"][digest]["base64"] = ("B" if data[0] == "A" else "A") + data[1:]
    assert "missing or was changed" in next(iter(verify(spoiled))).reason


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c["finding"].update(measured=c["finding"]["measured"] / 2),
        lambda c: c.update(verdict="holds"),
        lambda c: c["proofs"][0]["evidence"][0]["bound"].update(lower=10.0, upper=20.0),
        lambda c: c["proofs"][0]["settings"].__setitem__(0, 0.5),
        lambda c: c["proofs"][0]["numbers"].update(h=1e-9),
        lambda c: c["proofs"][0]["instance"]["problem"].update(activation="sigmoid"),
        lambda c: c["proofs"][0].pop("theorem"),
        lambda c: c["proofs"][0].update(theorem="mine"),
    ],
)
def test_a_tampered_number_is_refused(record, spoil):
    spoiled = copy.deepcopy(record)
    spoil(spoiled["claims"][0])
    assert REFUSED in outcomes(spoiled)


def test_a_tampered_bound_of_a_users_claim_is_refused(hers):
    for k, side in ((0, "upper"), (-1, "lower")):
        spoiled = copy.deepcopy(hers)
        bound = spoiled["claims"][k]["proofs"][0]["bound"]
        bound[side] = bound["lower"] / 2 if side == "upper" else bound["upper"] * 1.01
        bound.update({"lower": 0.0} if side == "upper" else {"upper": bound[side]})
        assert outcomes(spoiled).count(REFUSED) == 1


@pytest.mark.parametrize("field", ["claims", "arrays", "sweep", "seeds", "settings", "counts"])
def test_a_record_without_a_part_is_wrong_use(tmp_path, hers, field):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({name: value for name, value in hers.items() if name != field}))
    for command in ("verify", "table"):
        result = call(command, path)
        assert result.exit_code == 2
        assert f"the record is damaged: {field}" in result.stderr


def test_a_run_without_a_field_is_refused(record):
    needed = {"id", "point", "seed", "verdict", "finding", "proofs"}
    record = {**record, "claims": [copy.deepcopy(record["claims"][1]) for _ in range(2)]}  # the cheaper one
    for field in record["claims"][0]:
        spoiled = copy.deepcopy(record)
        del spoiled["claims"][0][field]
        sweeps = copy.deepcopy(spoiled)
        sweeps["seeds"] = 2  # so that its point and its seed are part of its name
        found = outcomes(sweeps)
        assert (REFUSED in found) == (field in needed), field
        assert found.count(PROVED) >= 2
    spoiled = copy.deepcopy(record)
    spoiled["claims"][0] = "none"
    assert outcomes(spoiled)[0] == REFUSED
    for proof in ({}, None, [], {"kind": "bound"}, {"kind": "certificate"}, {"kind": "none"}):
        spoiled = copy.deepcopy(record)
        spoiled["claims"][0]["proofs"][0] = proof
        assert REFUSED in outcomes(spoiled), proof


def test_a_finding_that_is_not_that_of_its_proofs_is_no_proved_one(record, hers):
    """Certificates renamed to a method of one's own, or left out, prove nothing of the finding."""
    spoiled = copy.deepcopy(record)
    spoiled["claims"][0]["finding"].update(certificate="by hand", measured=0.0)
    assert outcomes(spoiled) == [PROVED, PROVED, UNCHECKED, PROVED, PROVED]
    spoiled = copy.deepcopy(record)
    for claim in spoiled["claims"]:
        claim["proofs"] = []
    assert outcomes(spoiled) == [UNCHECKED, UNCHECKED]  # one certified, one refuted
    spoiled = copy.deepcopy(hers)
    finding = spoiled["claims"][0]["finding"]
    finding["measured"] = finding["measured"] / 2
    assert outcomes(spoiled) == [PROVED, UNCHECKED, *[PROVED] * 7]


def test_every_quantity_can_be_proved_again():
    problem, theta, x, y = network()
    M = np.array([[2.0, 1.0], [1.0, 2.0]])
    arguments = {
        "eigenvalue_min": (M,),
        "eigenvalue_max": (M,),
        "positive_definite": (M,),
        "gram_min": (problem, theta, x),
        "gram_max": (problem, theta, x),
        "residual_norm": (problem, theta, x, y),
        "newton_schulz_residual": (M, 0.3 * np.eye(2)),
        "jacobian_lipschitz": (problem, x),
        "jacobian_change": (problem, theta, x, 0.5),
        "slope_lipschitz": ("tanh",),
    }
    assert set(arguments) == set(ARGUMENTS) == set(CHECKERS)
    for name, given in arguments.items():
        back = Proof.from_json(again(prove(name, *given).to_json()))
        assert back.check().holds, name
        assert back.bound == prove(name, *given).bound


def test_what_cannot_be_checked_is_counted_with_its_reason():
    class Mine(gr.Gaussian):
        pass

    problem, theta, x, _ = network()
    proof = Proof("gram_min", Bound(0.0, 1.0, True, "m"), (gr.Problem(problem.model, Mine()), theta, x))
    control = Finding("refuted", 2.0, 1.0, "planted", witness=0)

    def check(run):
        bound = prove("gram_min", problem, theta, x).bound
        return decided(bound, at_least=0.0, detail="d", proofs=[proof]).with_control(control)

    from proofs_check import Claim, Suite

    one = Claim("mine", "s", "x", "inequality", "certified", {}, check)
    (found,) = verify(again(to_record(run_suite(Suite((one,)), Run()))))
    assert (found.outcome, found.what) == (UNCHECKED, "a proof")
    assert "only the package's likelihoods" in found.reason
    none = Claim("none", "s", "x", "inequality", "certified", {}, lambda run: _bare_certified(control))
    (found,) = verify(again(to_record(run_suite(Suite((none,)), Run()))))
    assert (found.outcome, found.reason) == (UNCHECKED, "the record stores no proof of it")


def _bare_certified(control):
    return Finding("certified", 0.0, 1.0, "d", certificate="by hand").with_control(control)


# --- the commands --------------------------------------------------------------------------------------


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def test_the_command_counts_and_its_status_says_whether(tmp_path, hers):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(hers))
    good = call("verify", path)
    assert (good.exit_code, good.stdout) == (
        0,
        "8 checked: 8 proved again, 0 refused; 0 could not be checked\n",
    )
    hers = copy.deepcopy(hers)
    hers["claims"][0]["proofs"][0]["bound"]["upper"] = 1e-9
    path.write_text(json.dumps(hers))
    bad = call("verify", path)
    assert bad.exit_code == 1
    assert bad.stdout.startswith("refused: jacobian-is-stable at width=64, seed 0: jacobian_change: ")
    for claim in hers["claims"]:
        claim.update(proofs=[])
    path.write_text(json.dumps(hers))
    nothing = call("verify", path)
    assert nothing.exit_code == 1
    assert nothing.stdout.splitlines()[-1].startswith("NOTHING CHECKED: 0 checked")


def test_tables_of_a_record(tmp_path, hers):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(hers))
    latex = call("table", path, "--format", "latex").stdout
    assert r"jacobian-is-stable & width=64 & 2 & 2 &" in latex
    assert latex.count(r"\\") == 5
    markdown = call("table", path).stdout.splitlines()
    assert len(markdown) == 2 + 4
    assert markdown[2].startswith("| jacobian-is-stable | width=64 | 2 | 2 |")


SPECIAL = "50 % of _x_ & {y} $z$ #1 ~a ^b \\c <d> |e| } {"


def test_latex_has_balanced_braces_and_no_special_character_of_a_text(hers):
    """What LaTeX would stop at, or read as something else: columns, groups, comments, mathematics."""
    spoiled = copy.deepcopy(hers)
    for claim in spoiled["claims"]:
        claim.update(id=SPECIAL, point={SPECIAL: SPECIAL})
    for record in (spoiled, hers, {**spoiled, "sweep": {}, "seeds": 1}):
        first, second, *lines = to_tex(record).splitlines()
        assert first.startswith("% ")
        assert second.startswith("% ")
        columns = len(re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", lines[0])[1])
        assert lines[1::2][0] == r"\toprule"
        assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
        rows = [line for line in lines[1:-1] if not re.fullmatch(r"\\(top|mid|bottom)rule", line)]
        for row in rows:
            assert row.endswith(r" \\")
            # a command with its empty group, an escaped character, or any other one
            tokens = re.findall(r"\\[a-z]+\{\}|\\.|.", row[: -len(r" \\")])
            assert tokens.count("&") == columns - 1
            assert not set("%${}_#^~<>|\\") & set(tokens)
            assert all(token in TEX.values() for token in tokens if token.startswith("\\"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "no record of proofs-check"),
        ('{"format": "proofs-check", "format_version": 1}', "has format_version 1, and this program reads 2"),
    ],
)
@pytest.mark.parametrize("command", ["verify", "table"])
def test_other_files_are_wrong_use(tmp_path, command, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    result = call(command, path)
    assert result.exit_code == 2
    assert message in result.stderr


def test_decided_reads_the_sides():
    bound = Bound(1.0, 2.0, True, "m")
    for options, verdict in (
        ({"at_most": 2.0}, "certified"),
        ({"at_most": 1.5}, "undecided"),
        ({"at_most": 0.5}, "refuted"),
        ({"at_least": 1.0}, "certified"),
        ({"at_least": 1.5}, "undecided"),
        ({"at_least": 2.5}, "refuted"),
    ):
        assert decided(bound, detail="d", **options).verdict == verdict
    run = Bound(1.0, 2.0, False, "a run")
    assert decided(run, at_most=2.0, detail="d").verdict == "holds"
    assert decided(run, at_most=0.5, detail="d").verdict == "undecided"
    for options in ({}, {"at_most": 1.0, "at_least": 1.0}, {"at_most": math.inf}):
        with pytest.raises(ValueError, match=r"give one of|must be finite"):
            decided(bound, detail="d", **options)
