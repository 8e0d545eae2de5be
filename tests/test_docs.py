"""The documentation keeps up with the code: names, docstrings, sources, conventions, rooms, claim file.

The pages are built and their examples run by Sphinx, in `.ci/run`; what is here needs no Sphinx. Most checks
return a list of what is wrong, so that a planted error can be shown to be found.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from support import Backend, import_peer

import grng_ref as gr
from grng_ref import certified, data, testing, training
from proofs_check import Run, bounds, certificates, claims_of, load_suite, run_suite

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
HOWTO = ("likelihood", "structure", "belief", "optimizer", "backend", "claim")
CONSTANTS = {"CONVENTIONS", "__version__"}
DOCUMENTED = sorted(set(gr.__all__) - CONSTANTS)
FUNCTIONS = [name for name in DOCUMENTED if inspect.isfunction(getattr(gr, name))]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


# --- docstrings ------------------------------------------------------------------------------------------


def sections(text: str) -> dict[str, str]:
    """The sections of a numpydoc docstring, by title; the part before the first one has the title ""."""
    parts = re.split(r"^(\w[\w ]*)\n-+$", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def referred(text: str) -> list[Any]:
    """The functions whose parameters a docstring takes over ("Parameters as in `ngd`")."""
    names = re.findall(
        r"(?:Parameters|as in|see) (?:and errors )?(?:as in )?`(\w+)`", text, flags=re.IGNORECASE
    )
    return [getattr(gr, name) for name in names if inspect.isfunction(getattr(gr, name, None))]


def documented_parameters(function: Any) -> set[str]:
    text = inspect.getdoc(function) or ""
    own = sections(text).get("Parameters", "")
    heads = re.findall(r"^([\w, *]+?)(?: :.*)?$", own, flags=re.MULTILINE)
    names = {name.strip(" *") for head in heads for name in head.split(",")}
    mentioned = set(re.findall(r"``(\w+)\b", text))  # "``rho >= 0`` may be a schedule too"
    for other in referred(text):
        names |= documented_parameters(other)
    return names | mentioned


def problems_of_docstring(thing: Any) -> list[str]:
    """What a public object's docstring lacks."""
    text = inspect.getdoc(thing) or ""
    found = sections(text)
    summary = found[""].strip().split("\n\n")[0]
    problems = [] if len(summary) > 10 and summary[0].isprintable() else ["no summary"]
    if inspect.isfunction(thing):
        parameters = set(inspect.signature(thing).parameters)
        if len(parameters) > 1:
            missing = sorted(parameters - documented_parameters(thing))
            problems += [f"parameter {name} is not described" for name in missing]
        if not {"Raises", "Notes"} & set(found) and not referred(text):
            problems.append("neither Raises nor Notes")
    return problems


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstring(name: str) -> None:
    assert problems_of_docstring(getattr(gr, name)) == []


def test_faults_of_docstrings_are_found() -> None:
    def bare(x: int, y: int) -> None:
        pass

    def partial(x: int, y: int) -> None:
        """The sum of two numbers.

        Parameters
        ----------
        x : int

        Raises
        ------
        TypeError
            Never.
        """

    assert problems_of_docstring(bare) == [
        "no summary",
        "parameter x is not described",
        "parameter y is not described",
        "neither Raises nor Notes",
    ]
    assert problems_of_docstring(partial) == ["parameter y is not described"]


# --- the list of public names ----------------------------------------------------------------------------


def missing_from_api(text: str) -> list[str]:
    listed = set(re.findall(r"^\.\. auto\w+:: grng_ref\.(\w+)$", text, flags=re.MULTILINE))
    listed |= set(re.findall(r"`gr\.(\w+)`", text))
    return sorted(set(gr.__all__) - listed)


def test_api_lists_every_public_name() -> None:
    assert missing_from_api(page("api.md")) == []
    assert missing_from_api(page("api.md").replace("autofunction:: grng_ref.ngd\n", "\n")) == ["ngd"]


@pytest.mark.parametrize("name", certified.__all__)
def test_ground_truth_is_documented(name: str) -> None:
    assert problems_of_docstring(getattr(certified, name)) == []
    assert re.search(rf"^\.\. auto\w+:: grng_ref\.certified\.{name}$", page("api.md"), flags=re.MULTILINE)


@pytest.mark.parametrize(
    "name",
    [f"{room.__name__}.{name}" for room in (data, training) for name in room.__all__ if not name.isupper()],
)
def test_data_and_training_are_documented(name: str) -> None:
    assert problems_of_docstring(resolve(name.removeprefix("grng_ref."))) == []
    assert re.search(rf"^\.\. auto\w+:: {re.escape(name)}$", page("api.md"), flags=re.MULTILINE)


def test_every_field_of_a_record_is_documented() -> None:
    schema = page("training.md").partition("## Records")[2]
    assert [name for name in training.Record._fields if f"`{name}`" not in schema] == []


@pytest.mark.parametrize("name", certificates.__all__)
def test_certificates_are_documented(name: str) -> None:
    assert problems_of_docstring(getattr(certificates, name)) == []
    directive = rf"^\.\. auto\w+:: proofs_check\.certificates\.{name}$"
    assert re.search(directive, page("theory/certificates.md"), flags=re.MULTILINE)


@pytest.mark.parametrize("name", bounds.__all__)
def test_bounds_are_documented(name: str) -> None:
    assert problems_of_docstring(getattr(bounds, name)) == []
    directive = rf"^\.\. auto\w+:: proofs_check\.bounds\.{name}$"
    assert re.search(directive, page("bounds.md"), flags=re.MULTILINE)


# --- sources and notation --------------------------------------------------------------------------------


def resolve(name: str) -> Any:
    """The object of a dotted name below grng_ref, or of one that begins with proofs_check.

    The longest module that there is, then attributes.
    """
    parts = name.split(".")
    root = [] if parts[0] == "proofs_check" else ["grng_ref"]
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join([*root, *parts[:length]]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[length:], found)
    raise ImportError(f"no module is the start of {name}")


def table_rows(text: str, columns: int) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in rows if len(row) == columns]
    return [row for row in cells if set(row[0]) - set("-: ")]


def problems_of_sources(text: str) -> list[str]:
    rows = [row for row in table_rows(text, 3) if row[0] != "formula"]
    problems = [] if len(rows) > 30 else [f"only {len(rows)} formulas"]
    for formula, where, source in rows:
        names = re.findall(r"`([\w.]+)`", where)
        problems += [] if names else [f"{formula}: no name"]
        for name in names:
            try:
                resolve(name)
            except (AttributeError, ImportError):
                problems.append(f"{formula}: {name} does not exist")
        if not re.match(r"(paper|classical|ours)\b", source):
            problems.append(f"{formula}: the source is none of paper, classical, ours")
    return problems


def test_sources_name_what_exists() -> None:
    text = page("sources.md")
    assert problems_of_sources(text) == []
    planted = text.replace("`solvers.solve_gram` | classical", "`solvers.solve_graham` | somewhere")
    assert len(problems_of_sources(planted)) == 2


def test_sources_have_every_public_formula() -> None:
    """Each function of the core and each optimizer has a line."""
    formulas = {"natural_direction", "ring_direction", "reng_direction", "kfac_factors", "kalman_update"}
    formulas |= {"fisher", "ngd", "ring", "reng", "rkalman", "compare", "two_layer"}
    where = " ".join(row[1] for row in table_rows(page("sources.md"), 3))
    assert {name for name in formulas if f".{name}`" not in where} == set()


CITATION = re.compile(r"\b([A-Z]\w*[a-z]),? ((?:18|19|20)\d\d)\b")  # the last author's name, before the year


def missing_references(text: str, references: str) -> set[tuple[str, str]]:
    """Name and year of each citation in the text that no line of the references holds."""
    lines = references.splitlines()
    return {
        (name, year)
        for name, year in CITATION.findall(text)
        if not any(re.search(rf"\b{name}\b", line) and year in line for line in lines)
    }


def test_every_citation_has_its_reference() -> None:
    references = page("sources.md").partition("## References")[2]
    code = [path for room in ("grng_ref", "proofs_check") for path in (ROOT / room).rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in [DOCS / "sources.md", *code])
    assert len(set(CITATION.findall(text))) > 20
    assert missing_references(text, references) == set()
    without = references.replace("Higham, Mary:", "Higham:")
    assert missing_references(text, without) == {("Mary", "2019")}


def test_notation_names_what_exists() -> None:
    code = " ".join(row[2] for row in table_rows(page("notation.md"), 3))
    problem_names = set(re.findall(r"problem\.(\w+)", code))
    assert len(problem_names) > 10
    assert {name for name in problem_names if not hasattr(gr.Problem, name)} == set()
    assert {name for name in re.findall(r"gr\.(\w+)", code) if not hasattr(gr, name)} == set()
    likelihood_names = set(re.findall(r"likelihood\.(\w+)", code))
    assert {name for name in likelihood_names if not hasattr(gr.Likelihood, name)} == set()


def test_conventions_page_has_the_record() -> None:
    text = page("conventions.md")
    record = dataclasses.asdict(gr.CONVENTIONS)
    assert [name for name, value in record.items() if f"{name}: {value}" not in text] == []


# --- architecture ----------------------------------------------------------------------------------------


def stated_imports(text: str) -> dict[str, set[str]]:
    """The import table of the page: room -> rooms that it imports."""
    part = text.split("## Import order")[1].split("\n## ")[0]
    stated = {}
    for rooms, imports in table_rows(part, 2):
        for room in re.findall(r"`(\w+)`", rooms):
            stated[room] = set(re.findall(r"`(\w+)`", imports))
    return stated


def imported_rooms(path: Path) -> set[str]:
    """The rooms of grng_ref that a file imports, at its top or inside functions."""
    package = ("grng_ref", *path.relative_to(ROOT / "grng_ref").parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            full = [*base, *(node.module.split(".") if node.module else [])]
            targets = [[*full, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        else:
            continue
        found |= {target[1] for target in targets if target[0] == "grng_ref" and len(target) > 1}
    return found


def real_imports() -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {}
    for path in sorted((ROOT / "grng_ref").rglob("*.py")):
        room = path.relative_to(ROOT / "grng_ref").parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):
            continue
        rooms.setdefault(room, set()).update(imported_rooms(path) - {room})
    return rooms


def test_architecture_states_the_imports() -> None:
    text = page("architecture.md")
    stated, real = stated_imports(text), real_imports()
    assert set(stated) == set(real)
    # the table says "any of the above" of the batteries
    assert {room: stated[room] for room in stated if room != "testing"} == {
        room: real[room] for room in real if room != "testing"
    }
    wrong = text.replace("| `beliefs` | `arrays`, `solvers`, `directions` |", "| `beliefs` | `models` |")
    assert stated_imports(wrong) != stated


def test_import_order_has_no_way_back() -> None:
    """A room imports only rooms that the table has before it."""
    order = list(stated_imports(page("architecture.md")))
    for room, imports in real_imports().items():
        late = {other for other in imports if order.index(other) >= order.index(room)}
        assert late == set(), f"{room} imports {late}, which come after it"


def test_only_arrays_imports_array_libraries() -> None:
    libraries = re.compile(r"^\s*(?:import|from) (?:cupy|torch|jax|array_api_strict)\b", flags=re.MULTILINE)
    paths = [path for path in (ROOT / "grng_ref").rglob("*.py") if "arrays" not in path.parts]
    assert [path.name for path in paths if libraries.search(path.read_text(encoding="utf-8"))] == []


# --- how to add ------------------------------------------------------------------------------------------


def code_lines(path: Path) -> int:
    """Lines of a file that hold code: no blank lines, comments or docstrings."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    lines = {n for n, line in enumerate(source.splitlines(), 1) if line.strip() and line.strip()[0] != "#"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


@pytest.mark.parametrize("name", HOWTO)
def test_howto_shows_a_short_object_and_runs_it(name: str) -> None:
    text = page(f"howto/{name}.md")
    shown = re.findall(r"^```\{literalinclude\} (\S+)$", text, flags=re.MULTILINE)
    assert len(shown) == (0 if name == "backend" else 1)
    assert all(code_lines(DOCS / "howto" / file) < 60 for file in shown)
    blocks = re.findall(r"^```\{testcode\}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    battery = {"claim": "proofs_check", "structure": "check_curvature("}.get(name, "check_")
    assert any(battery in block for block in blocks)
    assert len(re.findall(r"^```\{testoutput\}", text, flags=re.MULTILINE)) == len(blocks)


def test_howto_objects_keep_their_contracts(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The objects of the pages pass the public batteries on every backend, not just where Sphinx runs."""
    monkeypatch.syspath_prepend(str(DOCS / "howto"))
    binomial, layer_scaled, information_belief, gradient_descent = (
        importlib.import_module(name)
        for name in ("binomial", "layer_scaled", "information_belief", "gradient_descent")
    )

    def prior(mean: Any) -> Any:
        return information_belief.InformationBelief(gr.full_belief(mean, prior_variance=2.0).information())

    if backend.library == "jax" and backend.dtype == "float32":
        pytest.skip("JAX compiles every operation for every shape: one dtype of it is enough here")
    options = {"backend": backend.library, "dtype": backend.dtype, "device": backend.device}
    if backend.read_only:
        options["asarray"] = backend.asarray
    testing.check_likelihood(binomial.Binomial(trials=5), outputs=2, **options)
    testing.check_curvature(layer_scaled.LayerScaledStructure(), exact_for_one_example=False, **options)
    testing.check_belief(prior, **options)
    testing.check_optimizer(lambda problem: gradient_descent.GradientDescent(problem, lr=0.1), **options)


@pytest.mark.parametrize(("backend", "dtype"), [("numpy", "float64"), ("array_api_strict", "float32")])
def test_claim_file_runs(backend: str, dtype: str) -> None:
    if backend != "numpy":
        import_peer(backend)
    outcome = run_suite(load_suite(DOCS / "howto" / "fisher_mean.py"), Run(backend=backend, dtype=dtype))
    assert outcome.ok, [result.problems for result in outcome.results]


def test_pages_are_linked() -> None:
    """Every page stands in the table of contents."""
    index = page("index.md")
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")} - {"index"}
    pages = {name for name in pages if not name.startswith("_build")}
    assert {name for name in pages if name not in index} == set()


def test_no_path_of_a_machine() -> None:
    paths = re.compile(r"/(?:home|work|root|tmp|Users)/")
    files = [*DOCS.rglob("*.md"), *DOCS.rglob("*.py"), *(ROOT / "examples").glob("*.py")]
    assert [path.name for path in files if paths.search(path.read_text(encoding="utf-8"))] == []


def test_readme_example_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """The first Python block of the README, 20 lines at most, and the block of text after it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^```python\n(.*?)^```\n.*?^```text\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert found, "README.md needs a python block and a text block with what it prints"
    code, shown = found.groups()
    assert len(code.splitlines()) <= 20
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - a file of this repository
    assert capsys.readouterr().out == shown


# --- theory ----------------------------------------------------------------------------------------------

THEOREMS = (
    "explicit_regularization",
    "forgetting",
    "forgetting_rates",
    "inexact_inverse",
    "kernel_limits",
    "majorant",
    "order_of_convergence",
    "residual_curvature",
    "secant",
    "stability",
    "unified_networks",
    "unified_rate",
)


def claims_named(text: str) -> set[str]:
    """The ids in backquotes of the lines that name claims."""
    parts = re.findall(r"^Claims?: (.*?)(?:\n\n|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return {name for part in parts for name in re.findall(r"`([a-z0-9-]+)`", part)}


def test_theory_pages_name_the_claims_that_there_are() -> None:
    named = {
        name for path in (DOCS / "theory").glob("*.md") for name in claims_named(path.read_text("utf-8"))
    }
    known = {one.id for one in load_suite().claims}
    assert named - known == set()
    modules = [importlib.import_module(f"proofs_check.claims.{topic}") for topic in THEOREMS]
    assert {one.id for module in modules for one in claims_of(module)} - named == set()
    assert claims_named("Claims: `a-b`,\n`c`. Text.\n\nOther `d`.") == {"a-b", "c"}


def test_theory_pages_call_refuted_what_is_expected_to_be() -> None:
    refuted = {one.id for one in load_suite().claims if one.expected == "refuted"}
    for path in (DOCS / "theory").glob("*.md"):
        text = path.read_text("utf-8")
        for name in claims_named(text):
            assert (f"`{name}` (refuted)" in text) == (name in refuted), f"{path.name}: {name}"


@pytest.mark.parametrize("package", ["grng_ref", "proofs_check"])
def test_no_heading_of_a_docstring_ran_into_its_text(package):
    """``Notes -----`` on one line is text to numpydoc, and its section is lost."""
    files = sorted((ROOT / package).rglob("*.py"))
    joined = re.compile(r"(Notes|Parameters|Returns|Raises|Attributes|Examples) -{3,}")
    assert files
    assert [str(file) for file in files if joined.search(file.read_text(encoding="utf-8"))] == []


def test_the_page_of_verdicts_is_current() -> None:
    """Ids, statements and expected verdicts; what was found must be what was expected."""
    spec = importlib.util.spec_from_file_location("verdicts", DOCS / "verdicts.py")
    verdicts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(verdicts)
    fields = ("id", "statement", "expected")
    claims = [{name: getattr(one, name) for name in fields} for one in load_suite().claims]
    record = {"claims": [{**one, "verdict": one["expected"]} for one in claims]}
    assert page("theory/verdicts.md") == verdicts.page(record)
    record["claims"] = [{**one, "statement": one["statement"] + "!"} for one in record["claims"]]
    assert page("theory/verdicts.md") != verdicts.page(record)
    assert verdicts.named(page("theory/certificates.md"))
