"""Claims register where they are defined: unique ids, checked arguments, no hidden list of the process."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import textwrap
from pathlib import Path

import pytest

from proofs_check import ClaimFileError, Finding, Run, Suite, claim, load_suite, run_claim, select

HEAD = "from proofs_check import Finding, claim\n"
ONE = """
@claim("{id}", statement="s", source="classical", kind="identity")
def {name}(run):
    bad = Finding("refuted", 2.0, 1.0, "planted", witness=2.0)
    return Finding("holds", 0.0, 1.0, "{text}").with_control(bad)
"""
GOOD = {"statement": "s", "source": "classical", "kind": "identity"}


def holds(run: Run) -> Finding:
    return Finding("holds", 0.0, 1.0, "nothing").with_control(
        Finding("refuted", 2.0, 1.0, "planted", witness=2.0)
    )


def write(path: Path, *blocks: str) -> Path:
    path.write_text(HEAD + "".join(blocks))
    return path


def one(id: str, name: str = "check", text: str = "x") -> str:
    return ONE.format(id=id, name=name, text=text)


def test_a_file_outside_the_package_registers_its_claims_in_order(tmp_path):
    path = write(tmp_path / "mine.py", one("second-first", "a"), one("first-second", "b"))
    suite = load_suite(path)
    assert [c.id for c in suite.claims] == ["second-first", "first-second"]
    assert suite["first-second"].place.startswith(str(path))


def test_functions_of_one_name_and_claims_made_in_a_loop_are_all_kept(tmp_path):
    # what a scan of the module's names would lose: the later function shadows the earlier one
    loop = """
for number in (1, 2):
    @claim(f"loop-{number}", statement="s", source="x", kind="identity", params={"number": number})
    def check(run, number):
        return None
"""
    path = write(tmp_path / "mine.py", one("a", "same"), one("b", "same"), loop)
    suite = load_suite(path)
    assert [c.id for c in suite.claims] == ["a", "b", "loop-1", "loop-2"]
    assert suite["loop-1"].params == {"number": 1}


def test_the_documented_example_runs_and_its_planted_error_is_caught(tmp_path):
    text = importlib.import_module("proofs_check.claim").__doc__
    lines = text.splitlines()
    code = "\n".join(line for line in lines if line.startswith("    ") or not line)
    path = tmp_path / "example.py"
    path.write_text(textwrap.dedent(code))
    (example,) = load_suite(path).claims
    for dtype in ("float64", "float32"):
        assert run_claim(example, Run(dtype=dtype)).ok
    assert example.doc.startswith("Fails if")


def test_loading_a_file_twice_gives_its_present_claims_only(tmp_path):
    path = write(tmp_path / "mine.py", one("a"), one("gone", "other"))
    before = load_suite(path)
    write(path, one("a", text="a longer text, so that no stale bytecode fits"))
    after = load_suite(path)
    assert [c.id for c in after.claims] == ["a"]
    assert after["a"](Run()).detail.startswith("a longer text")
    assert before["a"](Run()).detail == "x"


def test_a_reloaded_module_replaces_its_claims(tmp_path, monkeypatch):
    write(tmp_path / "claims_to_reload.py", one("a"))
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("claims_to_reload")
    try:
        first = module.check
        module = importlib.reload(module)
        assert module.__proofs_check_claims__ == [module.check]
        assert module.check is not first
    finally:
        del sys.modules["claims_to_reload"]


@pytest.mark.parametrize(
    "second",
    [
        one("a", "other"),
        '\nfor _ in range(2):\n    claim("b", statement="s", source="x", kind="rate")(lambda run: None)\n',
    ],
    ids=["two functions", "one function twice"],
)
def test_a_second_claim_with_the_same_id_raises(tmp_path, second):
    path = write(tmp_path / "mine.py", one("a"), second)
    with pytest.raises(ValueError, match=r"id '[ab]' is taken by the claim at .*mine\.py:\d+, second at"):
        load_suite(path)


def test_a_suite_rejects_equal_ids_from_two_files(tmp_path):
    left = load_suite(write(tmp_path / "left.py", one("a")))
    right = load_suite(write(tmp_path / "right.py", one("a")))
    with pytest.raises(
        ValueError, match=r"id 'a' is taken by the claim at .*left\.py:\d+, second at .*right"
    ):
        Suite(left.claims + right.claims)


def test_a_file_may_import_its_neighbours_and_claims_made_elsewhere(tmp_path):
    maker = (
        HEAD
        + "def make(id):\n    return claim(id, statement='s', source='x', kind='rate')(lambda run: None)\n"
    )
    (tmp_path / "neighbour_of_claims.py").write_text(maker)
    path = tmp_path / "mine.py"
    path.write_text("from neighbour_of_claims import make\nmade = make('from-elsewhere')\n")
    before = list(sys.path)
    try:
        assert [c.id for c in load_suite(path).claims] == ["from-elsewhere"]
    finally:
        sys.modules.pop("neighbour_of_claims", None)
    assert sys.path == before


def test_a_dataclass_in_a_file_with_postponed_annotations_loads(tmp_path):
    path = tmp_path / "mine.py"
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n" + HEAD
    path.write_text(head + "@dataclass\nclass Size:\n    n: int = 3\n" + one("a"))
    assert len(load_suite(path).claims) == 1


def test_a_file_that_raises_leaves_nothing_behind(tmp_path):
    path = write(tmp_path / "mine.py", one("a"), "1 / 0\n")
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        load_suite(path)
    assert not {name for name in set(sys.modules) - before if name.startswith("proofs_check_file")}


def test_what_is_no_claims_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*absent\.py"):
        load_suite(tmp_path / "absent.py")
    (tmp_path / "claims.txt").write_text("x")
    with pytest.raises(ClaimFileError, match="read from a Python file"):
        load_suite(tmp_path / "claims.txt")
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(ClaimFileError, match="holds no claims; make one with @claim"):
        load_suite(tmp_path / "empty.py")


@pytest.mark.parametrize(
    ("id", "changed", "message"),
    [
        ("Not-Kebab", {}, "id must be kebab-case .*'Not-Kebab'"),
        ("two--hyphens", {}, "id must be kebab-case"),
        ("under_score", {}, "id must be kebab-case"),
        ("", {}, "id must be kebab-case"),
        (3, {}, "id must be kebab-case .* got 3"),
        ("a", {"statement": " "}, "statement of claim 'a' must be a nonempty text, got ' '"),
        ("a", {"source": ""}, "source of claim 'a' must be a nonempty text"),
        ("a", {"kind": "theorem"}, "kind of claim 'a' must be one of identity, .*; got 'theorem'"),
        ("a", {"expected": "true"}, "expected of claim 'a' must be one of certified, .*; got 'true'"),
        (
            "a",
            {"kind": "statistical", "expected": "certified"},
            "expected of claim 'a' cannot be 'certified'",
        ),
        ("a", {"params": {"x": {1}}}, "params of claim 'a' must be representable in JSON"),
        ("a", {"params": {"x": float("nan")}}, "params of claim 'a' must be representable in JSON"),
        ("a", {"params": {"size": 3}}, "params of claim 'a' do not fit"),
    ],
)
def test_wrong_arguments_name_what_they_got_and_what_is_needed(id, changed, message):
    with pytest.raises(ValueError, match=message):
        claim(id, **(GOOD | changed))(holds)


def test_a_claim_gets_a_fresh_copy_of_its_parameters():
    def greedy(run, sizes):
        sizes.append(1)
        return Finding("holds", float(len(sizes)), 9.0, "sizes")

    made = claim("greedy-claim", **GOOD, params={"sizes": [5]})(greedy)
    assert [made(Run()).measured for _ in range(3)] == [2.0, 2.0, 2.0]
    assert made.params == {"sizes": [5]}


def test_patterns_select_in_the_suites_order_and_never_silently_nothing(tmp_path):
    path = write(tmp_path / "mine.py", one("ring-b", "a"), one("ring-a", "b"), one("other", "c"))
    suite = load_suite(path)
    assert [c.id for c in select(suite)] == ["ring-b", "ring-a", "other"]
    assert [c.id for c in select(suite, ["other", "ring-?"])] == ["ring-b", "ring-a", "other"]
    assert [c.id for c in select(suite, ["ring-a"])] == ["ring-a"]
    with pytest.raises(
        ValueError, match=r"no claim matches 'rong-\*'; the claims are: ring-b, ring-a, other"
    ):
        select(suite, ["ring-*", "rong-*"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float16"}, "dtype must be one of float64, float32; got 'float16'"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"seed": True}, "seed must be an integer"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Run(**settings)


def test_draws_depend_on_seed_and_key_only():
    draw = Run(seed=1).rng(7).normal()
    assert draw == Run(seed=1, dtype="float32").rng(7).normal()
    assert draw != Run(seed=2).rng(7).normal()
    assert draw != Run(seed=1).rng(8).normal()
