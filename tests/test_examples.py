"""Every example runs, and what it shows is true, judged by dense linear algebra that it does not use.

No golden output: each check is a property, and a planted error (a changed line of the script) makes it fail.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import import_peer, require_gpu, tolerance

import grng_ref as gr

EXAMPLES = Path(__file__).parent.parent / "examples"

Names = dict[str, Any]
"""What a script leaves behind: its global names."""


def run(script: str, *arguments: str, replace: Iterable[tuple[str, str]] = ()) -> Names:
    """Execute a script as ``python script arguments`` would; some of its text may be changed first."""
    path = EXAMPLES / script
    source = path.read_text(encoding="utf-8")
    for before, after in replace:
        assert source.count(before) == 1, f"{script} has no longer exactly one {before!r}"
        source = source.replace(before, after)
    names: Names = {"__name__": "__main__", "__file__": str(path)}
    called = sys.argv
    sys.argv = [script, *arguments]
    try:
        exec(compile(source, script, "exec"), names)  # noqa: S102 - a script of this repository
    finally:
        sys.argv = called
    return names


def assert_solves(matrix: np.ndarray, x: np.ndarray, v: np.ndarray) -> None:
    """``matrix x = v`` by LAPACK's scaled residual; 30 is LAPACK's own threshold."""
    size = np.linalg.norm(matrix) * np.linalg.norm(x) * len(x) * np.finfo(float).eps
    assert np.linalg.norm(v - matrix @ x) / size <= 30.0


def dense_fisher(jacobian: np.ndarray, p: np.ndarray) -> np.ndarray:
    """``(1/N) sum_n J_n^T (diag p_n - p_n p_n^T) J_n``, example by example."""
    parts = [j.T @ (np.diag(q) - np.outer(q, q)) @ j for j, q in zip(jacobian, p, strict=True)]
    return np.sum(parts, axis=0) / len(parts)


def check_first_steps(names: Names) -> None:
    problem, theta, x, y = (names[n] for n in ("problem", "theta", "x", "y"))
    steps, rho, damping = names["steps"], names["rho"], names["damping"]
    p = np.exp(problem.outputs(theta, x))
    fisher = dense_fisher(problem.jacobian(theta, x), p / p.sum(axis=1, keepdims=True))
    g, hessian = problem.gradient(theta, x, y), problem.hessian(theta, x, y)
    unit = np.eye(len(g))
    assert_solves(fisher + damping * unit, -steps["NGD"], g)
    assert_solves(fisher + (damping + rho * g @ g) * unit, -steps["RING"], g)
    assert_solves(fisher + damping * unit, -steps["RENG"], g + rho * hessian @ g)
    # The two solve one system by unlike routes, so each errs by the condition number times roundoff.
    condition = np.linalg.cond(fisher + damping * unit)
    assert names["identity"].relative_error <= tolerance("float64", condition)
    # K-FAC is an approximation: a descent step that is not the exact one.
    assert steps["K-FAC"] @ g < 0.0
    assert 0.01 < names["approximation"].relative_error < 1.0
    assert all(after < before for before, after in names["losses"].values())


def check_foreign_architecture(names: Names) -> None:
    B, c, g, f = (names[n] for n in ("B", "c", "g", "f"))
    # Central differences with h = 1e-5: rounding eps |f| / h = 2e-11, truncation h^2 |f'''| / 6 = 2e-11 times
    # third derivatives; a factor of 1e2 for those and for the division by the largest entry.
    assert max(names["errors"]) < 1e-8
    assert np.abs(B.T @ c - g).max() <= tolerance("float64", terms=len(c)) * np.abs(g).max()
    p = np.exp(f)
    fisher = dense_fisher(names["jacobian"], p / p.sum(axis=1, keepdims=True))
    unit = np.eye(len(g))
    assert_solves(fisher + 1e-2 * unit, names["natural"], g)
    assert_solves(fisher + (1e-2 + 0.5 * g @ g) * unit, names["ring"], g)
    hg = names["difference"](names["gradient"], g)
    assert_solves(fisher + 1e-2 * unit, names["reng"], g + 0.5 * hg)


def check_online_rkalman(names: Names) -> None:
    # Orthogonal transformations of a root whose condition number is that of the information, square-rooted;
    # every batch adds roundings, at most 60 of them.
    condition = float(np.sqrt(np.linalg.cond(names["information"])))
    largest = max(np.abs(names["mean"]).max(), np.abs(names["covariance"]).max())
    assert set(names["errors"]) == {"one batch", "one by one", "permuted"}
    assert max(names["errors"].values()) <= tolerance("float64", condition, terms=60) * largest
    # Regularization adds information: the covariance falls in the order of positive semidefinite matrices.
    assert np.linalg.eigvalsh(names["covariance"] - names["regularized"]).min() > 0.0
    assert 0.0 < names["shrunk"] < 1.0


def check_structures_along_training(names: Names) -> None:
    """Exact steps and the errors of four structures, from dense matrices, where the run starts and ends."""
    problem, x, y, damping = (names[n] for n in ("problem", "x", "y", "DAMPING"))
    losses, comparisons = names["losses"], names["comparisons"]
    assert all(after < before for before, after in itertools.pairwise(losses))
    assert {len(found) for found in (losses, *comparisons.values())} == {names["STEPS"]}
    for k in (0, -1):
        theta, step = names["points"][k], names["steps"][k]
        p = np.exp(problem.outputs(theta, x))
        fisher = dense_fisher(problem.jacobian(theta, x), p / p.sum(axis=1, keepdims=True))
        g, unit = problem.gradient(theta, x, y), np.eye(len(theta))
        assert_solves(fisher + damping * unit, -step, g)
        shapes = [layer.shape for layer in problem.unpack(theta)]
        layer = np.repeat(np.arange(len(shapes)), [np.prod(shape) for shape in shapes])
        inputs = np.repeat([m for _, m in shapes], [n for n, _ in shapes])
        unit_of = np.repeat(np.arange(len(inputs)), inputs)
        factors = zip(problem.activations(theta, x), problem.score_signals(theta, x), strict=True)
        kronecker = np.zeros_like(fisher)
        for index, (a, d) in enumerate(factors):
            product = np.kron(np.einsum("nki,nkj->ij", d, d), a.T @ a) / len(x) ** 2
            kronecker[np.ix_(layer == index, layer == index)] = product
        structures = {
            "blocks": np.where(layer[:, None] == layer, fisher, 0.0),
            "unit-wise": np.where(unit_of[:, None] == unit_of, fisher, 0.0),
            "diagonal": np.diag(np.diag(fisher)),
            "K-FAC": kronecker,
        }
        for label, matrix in structures.items():
            expected = gr.compare(-np.linalg.solve(matrix + damping * unit, g), step)
            atol = tolerance("float64", np.linalg.cond(matrix + damping * unit))
            assert abs(comparisons[label][k].relative_error - expected.relative_error) <= atol
            assert abs(comparisons[label][k].cosine - expected.cosine) <= atol
        assert min(found[k].relative_error for found in comparisons.values()) > 0.1  # none is the exact one


def check_gpu_or_numpy(names: Names, reference: Names) -> None:
    assert all(later < earlier for earlier, later in zip(names["losses"], names["losses"][1:], strict=False))
    assert names["losses"][-1] < 0.25 * names["losses"][0]
    # The damping falls to 2e-3 beside a curvature near 1: twelve solves of condition up to 1e3, each of which
    # passes its error on.
    rtol = tolerance(names["dtype"], 1e3, terms=12)
    assert np.linalg.norm(names["weights"] - reference["weights"]) <= rtol * np.linalg.norm(
        reference["weights"]
    )
    assert type(names["theta"]) is type(names["x"])


def check_online_digits(names: Names) -> None:
    """Accuracies by a forward pass in NumPy, one pass over training examples, beliefs by their states."""
    x, labels, layers = names["x"], names["labels"], names["LAYERS"]
    training = names["TRAINING"]
    expected = {"full", "blocks", "low rank (16)", "diagonal", "precision", "AdamW"}
    assert {name for name, *_ in names["runs"]} == set(names["curves"]) == expected
    for name, seed, theta, state in names["runs"]:
        order = np.random.default_rng(seed).permutation(len(x))
        hidden, output = theta[: layers[0]].reshape(8, 65), theta[layers[0] :].reshape(10, 9)
        a = np.tanh(x[order[training:]] @ hidden[:, :-1].T + hidden[:, -1])
        found = np.argmax(a @ output[:, :-1].T + output[:, -1], axis=1)
        accuracy = np.mean(found == labels[order[training:]])
        assert accuracy == names["curves"][name][seed][-1]
        assert accuracy > 0.4  # four times chance; after the 240 examples of a short run too
        assert state.step * names["BATCH"] == training  # one pass
        if name == "AdamW":
            continue
        information = state.information()
        diagonal, block = np.diag(np.diag(information)), np.repeat([0, 1], layers)
        across = information[block[:, None] != block]
        assert (name in ("full", "low rank (16)")) == bool(np.any(across != 0.0))
        assert ("diagonal" in name or name == "precision") == np.array_equal(information, diagonal)
        if name == "full":  # every example once: its Fisher has rank 9 and a trace below |J|^2
            prior = 1.0 / names["METHODS"][name][1]["prior_variance"]
            values = np.linalg.eigvalsh(information)
            assert values[0] >= prior * (1.0 - 1e-9)
            # |abar|^2 <= 9 in the last layer and trace Om <= 1: its block gains at most 9 an example
            last = np.trace(information[layers[0] :, layers[0] :]) - prior * layers[1]
            assert 0.0 < last <= 9.0 * training


def check_new_optimizer(names: Names) -> None:
    """One step by dense Kronecker products, inside and outside the radius; the study kept its protocol."""
    assert names["result"]["audit"] == []
    rows = {row["entry"]: row for row in names["result"]["analysis"]["summary"]}
    assert {"SGD", "RING kfac", "RING kfac, rho = 0", "trust region"} <= set(rows)
    assert all(row["failed"] == 0 for row in rows.values())
    own = [row for row in names["result"]["analysis"]["answers"] if row["entry"] == "trust region"]
    assert len(own) == 4
    assert all([a["rival"] for a in row["against"]] == ["SGD", "AdamW", "K-FAC"] for row in own)
    assert all(a["lower"] is not None for row in own for a in row["against"])
    rng = np.random.default_rng(0)
    problem = gr.Problem(gr.MLP((3, 2, 1), activation="tanh"), gr.Bernoulli())
    x, y, theta = rng.normal(size=(9, 3)), rng.integers(0, 2, (9, 1)).astype(float), problem.init(rng=0)
    parts = []
    layers = zip(problem.activations(theta, x), problem.score_signals(theta, x), strict=True)
    for (a, d), g in zip(layers, problem.unpack(problem.gradient(theta, x, y)), strict=True):
        A, G = a.T @ a / 9, np.einsum("nki,nkj->ij", d, d) / 9
        parts.append(np.linalg.solve(np.kron(G, A) + 0.1 * np.eye(g.size), g.ravel()))
    direction = np.concatenate(parts)
    size = np.linalg.norm(direction)
    for radius, scale in ((0.5 * size, 0.5), (2.0 * size, 1.0)):
        made = names["make"](problem, {"radius": radius, "damping": 0.1}, 0)
        delta, state, info = made.update(theta, made.init(theta), x, y)
        # damping 0.1 bounds the condition number by some 1e2
        np.testing.assert_allclose(delta, -scale * direction, rtol=1e-11, atol=1e-13)
        assert state == 1
        assert np.isclose(info.step_norm, scale * size)


CHECKS: dict[str, Callable[[Names], None]] = {
    "first_steps.py": check_first_steps,
    "foreign_architecture.py": check_foreign_architecture,
    "new_optimizer.py": check_new_optimizer,
    "online_digits.py": check_online_digits,
    "online_rkalman.py": check_online_rkalman,
    "structures_along_training.py": check_structures_along_training,
}

PLANTED = [
    ("first_steps.py", ("damping=damping)  # the full", "damping=1.01 * damping)  # the full")),
    ("first_steps.py", ("1.0 / (128 * damping)", "1.0 / damping")),  # a mean where the filter sums
    ("first_steps.py", ('structure="kfac")', 'structure="full")')),
    ("foreign_architecture.py", ("CLASSES, -1) / np.sqrt(N)", "CLASSES, -1)")),  # B of a sum, not a mean
    ("foreign_architecture.py", ("1.0 - hidden**2", "1.0 - hidden")),
    ("foreign_architecture.py", (".transpose(0, 2, 1)", "")),
    ("new_optimizer.py", ("min(1.0, self.radius / size)", "self.radius / size")),
    ("new_optimizer.py", ('structure="kfac")', 'structure="ekfac")')),
    ("new_optimizer.py", ('"K-FAC", "NGD kfac"', '"NGD kfac"')),  # a baseline less
    ("online_digits.py", ("test, batches = order[TRAINING:]", "test, batches = order[:TRAINING]")),
    ("online_digits.py", ("(gr.block_diagonal_belief", "(lambda m, blocks, **o: gr.full_belief(m, **o)")),
    ("online_digits.py", ("in enumerate(batches)", "in enumerate(batches + batches)")),
    ("online_digits.py", (".argmax(axis=1)", ".argmin(axis=1)")),
    ("online_digits.py", ("labels[batch])", "labels[batch[::-1]])")),
    ("online_rkalman.py", ("gr.Gaussian(variance=NOISE_VARIANCE)", "gr.Gaussian()")),
    ("online_rkalman.py", ("np.eye(4) / PRIOR_VARIANCE", "np.eye(4)")),
    ("structures_along_training.py", ('"unitwise", "exact"', '"block_diagonal", "exact"')),
    ("structures_along_training.py", ('"K-FAC", "kfac", "exact"', '"K-FAC", "kfac", "factored"')),
    ("structures_along_training.py", ("damping=DAMPING)", "damping=2 * DAMPING)")),
    ("structures_along_training.py", ('"kronecker_optimal", "exact"', '"full", "exact"')),
]


SHORTER = {
    "new_optimizer.py": [("200, 30, 2)", "60, 12, 1)")],
    "online_digits.py": [("= 5, 8, 1440, 15", "= 1, 8, 240, 15")],
    "structures_along_training.py": [("STEPS = 0.03, 20", "STEPS = 0.03, 2")],
}
"""What makes a script quick where its first steps are enough."""

SLOW = {"online_digits.py"}
"""Where the whole of it takes a minute: the short one is checked instead."""


def test_every_example_is_checked() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*CHECKS, "gpu_or_numpy.py"}


@pytest.mark.parametrize("script", CHECKS)
def test_example(script: str) -> None:
    CHECKS[script](run(script, replace=SHORTER[script] if script in SLOW else ()))


def test_figure_of_digits(tmp_path: Path) -> None:
    import_peer("matplotlib")
    path = tmp_path / "figure.png"
    names = run("online_digits.py", str(path), replace=SHORTER["online_digits.py"])
    assert path.read_bytes().startswith(b"\x89PNG")
    drawn = {line.get_label(): line for line in names["axes"].get_lines()}
    assert set(drawn) == set(names["curves"])
    for label, curve in names["curves"].items():
        np.testing.assert_allclose(drawn[label].get_ydata(), 1.0 - np.mean(curve, axis=0), atol=1e-15)
        np.testing.assert_array_equal(drawn[label].get_xdata(), [120, 240])


def test_figure_of_structures(tmp_path: Path) -> None:
    import_peer("matplotlib")
    path = tmp_path / "figure.png"
    names = run("structures_along_training.py", str(path), replace=SHORTER["structures_along_training.py"])
    assert path.read_bytes().startswith(b"\x89PNG")
    drawn = {line.get_label(): line.get_ydata() for line in names["error"].get_lines()}
    assert set(drawn) == set(names["comparisons"])
    for label, found in names["comparisons"].items():
        np.testing.assert_array_equal(drawn[label], [c.relative_error for c in found])
    assert names["error"].get_yscale() == "log"


BACKENDS = [
    "array_api_strict",
    pytest.param("torch", marks=pytest.mark.peers),
    pytest.param("jax", marks=pytest.mark.peers),
    pytest.param("cupy", marks=pytest.mark.gpu),
]


@pytest.mark.parametrize("library", BACKENDS)
def test_the_new_optimizer_enters_the_study_on_any_backend(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "cupy":
        require_gpu()
    else:
        import_peer(library)
    monkeypatch.setenv("GRNG_BACKEND", library)
    names = run("new_optimizer.py", replace=SHORTER["new_optimizer.py"])
    check_new_optimizer(names)
    assert names["result"]["protocol"]["place"]["backend"] == library


@pytest.mark.parametrize(("script", "replace"), PLANTED, ids=lambda value: value[0] if value else "")
def test_planted_error_is_caught(script: str, replace: tuple[str, str]) -> None:
    with pytest.raises((AssertionError, ValueError)) as caught:
        CHECKS[script](run(script, replace=(replace, *SHORTER.get(script, ()))))
    # wrong rows are seen by the full Fisher itself
    seen = "coefficients must satisfy v = B^T c" in str(caught.value)
    assert seen or isinstance(caught.value, AssertionError)


@pytest.mark.parametrize(
    ("library", "dtype"),
    [
        ("array_api_strict", "float64"),
        ("array_api_strict", "float32"),
        pytest.param("torch", "float64", marks=pytest.mark.peers),
        pytest.param("torch", "float32", marks=pytest.mark.peers),
        pytest.param("jax", "float64", marks=pytest.mark.peers),
        pytest.param("cupy", "float64", marks=pytest.mark.gpu),
        pytest.param("cupy", "float32", marks=pytest.mark.gpu),
    ],
)
def test_backends_agree(library: str, dtype: str) -> None:
    if library == "cupy":
        require_gpu()
    else:
        import_peer(library)
    reference = run("gpu_or_numpy.py")
    names = run("gpu_or_numpy.py", library, dtype)
    check_gpu_or_numpy(names, reference)
    wrong = {**names, "weights": names["weights"] * (1.0 + 1e-1)}  # a backend off by ten per cent
    with pytest.raises(AssertionError):
        check_gpu_or_numpy(wrong, reference)


def test_backend_must_exist() -> None:
    with pytest.raises(ValueError, match="backend must be one of"):
        run("gpu_or_numpy.py", "fortran")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short_and_public(path: Path) -> None:
    """Fewer than 60 lines, and nothing of the package but its public names."""
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 60
    assert "from grng_ref" not in source
    used = {word.split("(")[0] for word in source.replace(",", " ").split() if word.startswith("gr.")}
    assert all(hasattr(gr, name.removeprefix("gr.").split(".")[0]) for name in used)
