"""The order of the rooms: what each part of the package may import, and the names that it must offer."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import grng_ref as gr

ROOT = Path(__file__).parents[2]

# In the order of the imports: no room may import one that stands below it here.
ROOMS = (
    "conventions",
    "environment",
    "arrays",
    "certified",
    "solvers",
    "likelihoods",
    "models",
    "problem",
    "curvature",
    "directions",
    "beliefs",
    "optimizers",
    "io",
    "data",
    "training",
    "testing",
    "reports",
    "cli",
)

LIBRARIES = {
    *("numpy", "scipy", "cupy", "cupyx", "torch", "jax", "jaxlib"),
    *("array_api_strict", "array_api_compat", "array_api_extra"),
}
# Array libraries outside of the room `arrays`: where, which, and the only names used of them (None: any).
EXCEPTIONS: dict[str, dict[str, set[str] | None]] = {
    "problem.py": {"numpy": {"random"}},  # the type of a host generator
    "curvature/__init__.py": {"numpy": {"random"}},  # the same
    "likelihoods/": {"numpy": None},  # samples are drawn on the host, and moved by `arrays`
    "models/mlp.py": {"numpy": None},  # so are first parameters
    "io.py": {"numpy": None, "array_api_compat": {"is_array_api_obj"}},  # npz is NumPy's format
    "data/": {"numpy": None},  # data sets are NumPy arrays; whoever trains moves them
    "training/batches.py": {"numpy": {"ndarray"}},  # the type of a permutation, drawn on the host
    "training/identity.py": {"numpy": {"ascontiguousarray"}},  # bytes of an array, to digest them
    "certified/": {"numpy": None},  # exact arithmetic is the host's
    # writing a part of an array, on every backend
    "curvature/dense.py": {"array_api_extra": {"at"}},
    "curvature/score.py": {"array_api_extra": {"at"}},
    "training/intervals.py": {"numpy": None, "scipy": {"special"}},  # statistics of numbers on the host
    "training/hessians.py": {"scipy": {"sparse"}},  # ARPACK, from products on any backend
    "testing/": {"numpy": None, "array_api_compat": None},  # references are computed on the host
}

# What proofs_check may import of the package: public names, and what its start needs before them.
PUBLIC = {
    "grng_ref",
    "grng_ref.certified",
    "grng_ref.testing",
    "grng_ref.reports",
    "grng_ref.data",
    "grng_ref.training",
    "grng_ref.conventions",  # printed by every report
    "grng_ref.environment",  # says which extra is missing, before anything of it is imported
}

# Behind the claims, which have public names only: bounds and certificates have arguments to check, the bounds
# compute in balls, and certificates ask an optimizer what it is.
BEHIND_CLAIMS = {
    "bounds/": {
        "grng_ref.arrays",
        "grng_ref.certified.library",
        "grng_ref.certified.linear",
        "grng_ref.certified.rounding",
        "grng_ref.models.activations",
    },
    "certificates/": {"grng_ref.arrays", "grng_ref.optimizers"},
}


def imported_modules(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[str]:
    """Absolute names of what a file imports, inside functions too; ``from x import y`` gives x.y."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parts, *(node.module or "").split(".")]).strip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def names_used_of(tree: ast.Module, library: str) -> set[str]:
    """The attributes taken from a library: ``np.random.Generator`` gives ``random``."""
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == library
    }
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases
    }
    from_imports = (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level)
    return used | {alias.name for n in from_imports if n.module == library for alias in n.names}


def violations(file: str, source: str) -> list[str]:
    """What is wrong with the imports of a file of grng_ref, named relative to the package."""
    tree, module = ast.parse(source), "grng_ref." + file.removesuffix(".py").replace("/", ".")
    is_package = module.endswith("__init__")
    module = module.removesuffix(".__init__")
    room = file.split("/")[0].removesuffix(".py")
    found = []
    exceptions = next((e for prefix, e in EXCEPTIONS.items() if file.startswith(prefix)), {})
    for name in sorted(set(imported_modules(tree, module, is_package=is_package))):
        top, *inner = name.split(".")
        if top in LIBRARIES and room != "arrays":
            allowed = exceptions.get(top, set())
            used = names_used_of(tree, top)
            if allowed is not None and not (used and used <= allowed):
                found.append(f"{file} imports the array library {name} (uses {sorted(used)})")
        elif top == "proofs_check":
            found.append(f"{file} imports {name}: proofs_check stands on grng_ref, never the reverse")
        elif top == "grng_ref" and room not in ("__init__", "__main__"):
            other = inner[0] if inner else ""
            if other not in ROOMS:
                found.append(f"{file} imports {name}, which is no room")
            elif ROOMS.index(other) > ROOMS.index(room):
                found.append(f"{file} imports {name}: {other} lies below {room}")
    return found


def package_files(package: str) -> list[str]:
    return sorted(str(p.relative_to(ROOT / package).as_posix()) for p in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("file", package_files("grng_ref"))
def test_imports_keep_the_order_of_the_rooms(file):
    assert violations(file, (ROOT / "grng_ref" / file).read_text(encoding="utf-8")) == []


def test_every_part_of_the_package_is_a_room():
    parts = {file.split("/")[0].removesuffix(".py") for file in package_files("grng_ref")}
    assert parts - {"__init__", "__main__"} <= set(ROOMS)


@pytest.mark.parametrize("prefix", EXCEPTIONS)
def test_no_exception_outlives_its_reason(prefix):
    files = [f for f in package_files("grng_ref") if f.startswith(prefix)]
    used: set[str] = set()
    for file in files:
        tree = ast.parse((ROOT / "grng_ref" / file).read_text(encoding="utf-8"))
        used |= {lib for lib in LIBRARIES if names_used_of(tree, lib)}
    assert set(EXCEPTIONS[prefix]) <= used


@pytest.mark.parametrize("file", package_files("proofs_check"))
def test_proofs_check_imports_public_names(file):
    tree = ast.parse((ROOT / "proofs_check" / file).read_text(encoding="utf-8"))
    module = "proofs_check." + file.removesuffix(".py").replace("/", ".")
    is_package = module.endswith("__init__")
    names = set(imported_modules(tree, module.removesuffix(".__init__"), is_package=is_package))
    ours = {name for name in names if name.split(".")[0] == "grng_ref"}
    allowed = PUBLIC | BEHIND_CLAIMS.get(file.partition("/")[0] + "/", set())
    assert {n for n in ours if n not in allowed and n.rpartition(".")[0] not in allowed} == set()
    if file.startswith("oracles/"):
        assert ours == set(), "the oracles are independent of what they judge"


@pytest.mark.parametrize("prefix", BEHIND_CLAIMS)
def test_what_is_allowed_behind_the_claims_is_used(prefix):
    texts = [(ROOT / "proofs_check" / f).read_text(encoding="utf-8") for f in package_files("proofs_check")]
    assert [
        name for name in BEHIND_CLAIMS[prefix] if not any(f"from {name} import" in t for t in texts)
    ] == []


# --- planted violations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("models/mlp.py", "from ..problem import Problem", "problem lies below models"),
        ("models/mlp.py", "from .. import problem", "problem lies below models"),
        ("arrays/linalg.py", "from ..solvers.result import refine", "solvers lies below arrays"),
        ("beliefs/full.py", "import grng_ref.optimizers", "optimizers lies below beliefs"),
        ("solvers/gram.py", "def f():\n    from ..curvature import solve", "curvature lies below solvers"),
        ("curvature/full.py", "import numpy as np\nnp.eye(3)", "array library numpy"),
        ("curvature/full.py", "from scipy.linalg import cholesky", "array library scipy"),
        ("problem.py", "import numpy as np\nnp.asarray(theta)", "array library numpy"),
        ("optimizers/natural.py", "import torch", "array library torch"),
        ("io.py", "from proofs_check import claim", "never the reverse"),
        ("solvers/gram.py", "from ..helpers import f", "no room"),
    ],
)
def test_planted_import_is_caught(file, source, message):
    (found,) = violations(file, source)
    assert message in found


def test_harmless_imports_pass():
    good = "import math\nfrom ..arrays import Array\nfrom .result import refine\nfrom .. import arrays"
    assert violations("solvers/gram.py", good) == []
    assert violations("problem.py", "import numpy as np\nx: np.random.Generator") == []


# --- names -----------------------------------------------------------------------------------------------

NAMES = {
    *("asarray", "to_numpy", "BackendError", "NumericalError", "Conventions"),
    *("natural_direction", "ring_direction", "reng_direction", "kfac_factors", "kronecker_solve"),
    *("curvature", "fisher", "solve", "SolveResult", "Curvature", "Structure"),
    *("Problem", "MLP", "two_layer", "Gaussian", "Categorical", "Bernoulli", "Poisson"),
    *("kalman_update", "KalmanResult", "full_belief"),
    *("ngd", "ring", "reng", "kfac", "rkalman", "sgd", "adamw", "sophia"),
    *("StepInfo", "compare", "save", "load"),
}
METHODS = {
    gr.Problem: {
        *("init", "unpack", "pack", "outputs", "loss", "gradient", "per_example_gradients", "jacobian"),
        *("jvp", "vjp", "hvp", "hessian", "score_rows", "score_coefficients", "activations"),
        *("score_signals",),
    },
    gr.Curvature: {
        *("shape", "dtype", "__matmul__", "matvec", "to_dense", "diagonal", "trace", "logdet", "solve"),
    },
    gr.FullBelief: {"size", "predict", "update", "information", "covariance"},
}


def test_public_names_exist():
    assert set(gr.__all__) >= NAMES
    assert [name for name in gr.__all__ if not hasattr(gr, name)] == []


@pytest.mark.parametrize("owner", METHODS, ids=lambda owner: owner.__name__)
def test_public_methods_exist(owner):
    assert {name for name in METHODS[owner] if not hasattr(owner, name)} == set()


def test_batteries_are_public():
    from grng_ref import testing

    batteries = {"check_belief", "check_curvature", "check_likelihood", "check_optimizer"}
    assert set(testing.__all__) == batteries | {"check", "parametrize_with_vectors", "Report"}
