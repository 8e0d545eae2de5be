"""Claims: a checkable statement, its source, and the verdict it is expected to get.

A claim is a function of a `Run` (and of its stated parameters) that returns a `Finding` with its negative
control::

    from proofs_check import claim, identity

    @claim("sum-is-twice-the-mean", statement="a + b = 2 (a + b) / 2", source="arithmetic",
           kind="identity", params={"size": 5})
    def check(run, size):
        \"\"\"Fails if the mean is normalised by anything but 2.\"\"\"
        a, b = run.asarray(tuple(run.rng(1).normal(size=(2, size))))

        def finding(factor):
            return identity(factor * ((a + b) / 2), a + b, tolerance=4 * run.eps,
                            reason="two roundings, each eps/2", detail="1 pair")

        return finding(2.0).with_control(finding(2.001))

Claims are kept in the namespace of the file that defines them, not in a list of the process: loading a file
twice gives the same claims twice over, never duplicates and never the old ones.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from .context import Run
from .findings import VERDICTS, Finding

KINDS = ("identity", "inequality", "rate", "statistical")
DEFAULT_SUITE = "proofs_check.claims"
_KEPT_AS = "__proofs_check_claims__"
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class ClaimFileError(ValueError):
    """A path that holds no claims: not a Python file, or one that makes none."""


@dataclass(frozen=True, eq=False)
class Claim:
    """One registered claim. Calling it runs its check: ``claim(run) -> Finding``.

    Attributes
    ----------
    id : str
        Unique, kebab-case.
    statement, source : str
        What is claimed, and where it is from (paper, classical result, our reconstruction).
    kind : {"identity", "inequality", "rate", "statistical"}
    expected : {"certified", "holds", "refuted", "undecided"}
    params : dict
        Given to the function by keyword at every call, as a fresh copy.
    function : callable
        ``function(run, **params) -> Finding``.
    full : dict
        Parameters that a full run has in place of those in ``params``.
    point : dict
        The parameters that a sweep has put in their place; empty without one.
    """

    id: str
    statement: str
    source: str
    kind: str
    expected: str
    params: Mapping[str, Any]
    function: Callable[..., Finding]
    full: Mapping[str, Any] = field(default_factory=dict)
    point: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, run: Run) -> Finding:
        """Run the check; whatever the function raises is raised."""
        return self.function(run, **copy.deepcopy(self.params_in(run)))

    def params_in(self, run: Run) -> dict[str, Any]:
        """The parameters of a run: those of a full one in their place, then those of the sweep's point."""
        return {**self.params, **(self.full if run.full else {}), **self.point}

    def at(self, point: Mapping[str, Any]) -> Claim:
        """The claim at a point of a sweep."""
        return replace(self, point=dict(point))

    @property
    def doc(self) -> str:
        """The function's docstring: how the claim could fail."""
        return inspect.getdoc(self.function) or ""

    @property
    def place(self) -> str:
        """File and line of the function."""
        code = self.function.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"


def claim(
    id: str,
    *,
    statement: str,
    source: str,
    kind: str,
    expected: str = "holds",
    params: Mapping[str, Any] | None = None,
    full: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Finding]], Claim]:
    """Register a function ``fn(run, **params) -> Finding`` as a claim; works in any file.

    Parameters
    ----------
    id : str
        Kebab-case (``ring-at-rho-zero``), unique in its suite.
    statement : str
        The claim itself, in words or a formula.
    source : str
        Where the statement is from.
    kind : {"identity", "inequality", "rate", "statistical"}
        A "rate" is an exponent: an order of convergence, or how an error shrinks with a width.
    expected : {"certified", "holds", "refuted", "undecided"}
        The verdict with which a run succeeds. A statistical claim cannot expect "certified".
    params : mapping, optional
        Keyword arguments of the function, representable in JSON.
    full : mapping, optional
        Values that some of them have in a full run (``--full``): more widths, more trials.

    Returns
    -------
    callable
        A decorator that returns the `Claim`.

    Raises
    ------
    ValueError
        An argument out of its range, parameters that the function does not take, or an id already taken.
    """
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise ValueError(f"id must be kebab-case (lower-case words, digits, single hyphens), got {id!r}")
    for name, text in (("statement", statement), ("source", source)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} of claim {id!r} must be a nonempty text, got {text!r}")
    if kind not in KINDS:
        raise ValueError(f"kind of claim {id!r} must be one of {', '.join(KINDS)}; got {kind!r}")
    if expected not in VERDICTS:
        raise ValueError(f"expected of claim {id!r} must be one of {', '.join(VERDICTS)}; got {expected!r}")
    if kind == "statistical" and expected == "certified":
        raise ValueError(f"expected of claim {id!r} cannot be 'certified': a statistical claim samples")
    given, fuller = dict(params or {}), dict(full or {})
    for name, values in (("params", given), ("full", fuller)):
        try:
            json.dumps(values, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} of claim {id!r} must be representable in JSON: {error}") from None
    if not set(fuller) <= set(given):
        raise ValueError(
            f"full of claim {id!r} must name parameters of it, got {sorted(set(fuller) - set(given))}"
        )

    def register(function: Callable[..., Finding]) -> Claim:
        try:
            inspect.signature(function).bind(Run(), **given)
        except TypeError as error:
            raise ValueError(
                f"params of claim {id!r} do not fit fn(run, **params): {error}; params are {given}"
            ) from None
        made = Claim(id, statement, source, kind, expected, given, function, fuller)
        _keep(made)
        return made

    return register


def _keep(made: Claim) -> None:
    """Add a claim to its file's own list; a reloaded file replaces, another function raises."""
    kept: list[Claim] = made.function.__globals__.setdefault(_KEPT_AS, [])
    for position, other in enumerate(kept):
        if other.id != made.id:
            continue
        # the same lines compiled anew: the module is being reloaded. The same code object: a loop.
        reloaded = other.place == made.place and other.function.__code__ is not made.function.__code__
        if not reloaded:
            raise ValueError(f"id {made.id!r} is taken by the claim at {other.place}, second at {made.place}")
        kept[position] = made
        return
    kept.append(made)


@dataclass(frozen=True)
class Suite:
    """Claims with unique ids, in order, and where they can be loaded again (for worker processes)."""

    claims: tuple[Claim, ...]
    origin: str | None = None

    def __post_init__(self) -> None:
        seen: dict[str, Claim] = {}
        for one in self.claims:
            if one.id in seen:
                raise ValueError(
                    f"id {one.id!r} is taken by the claim at {seen[one.id].place}, second at {one.place}"
                )
            seen[one.id] = one

    def __getitem__(self, id: str) -> Claim:
        for one in self.claims:
            if one.id == id:
                return one
        raise KeyError(id)


def load_suite(origin: str | Path = DEFAULT_SUITE) -> Suite:
    """The claims of the package's own suite, or of a user's file.

    Parameters
    ----------
    origin : str or Path
        ``"proofs_check.claims"``, or the path of a Python file. While the file loads, its directory is on
        the import path, so that it can import its neighbours.

    Raises
    ------
    FileNotFoundError
        No such file.
    ClaimFileError
        The file holds no claims, or is no Python file.
    ValueError
        Two claims share an id.
    Exception
        Whatever the file raises when it is executed.
    """
    if str(origin) == DEFAULT_SUITE:
        package = importlib.import_module(DEFAULT_SUITE)
        topics = sorted(found.name for found in pkgutil.iter_modules(package.__path__))
        modules = [importlib.import_module(f"{DEFAULT_SUITE}.{topic}") for topic in topics]
        return Suite(_unique(c for module in modules for c in claims_of(module)), DEFAULT_SUITE)
    path = Path(origin).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {origin}")
    if path.suffix != ".py":
        raise ClaimFileError(f"claims are read from a Python file (.py), got {origin}")
    claims = _unique(claims_of(_load_file(path)))
    if not claims:
        raise ClaimFileError(
            f"{origin} holds no claims; make one with @claim (from proofs_check import claim)"
        )
    return Suite(claims, str(path))


def claims_of(module: ModuleType) -> tuple[Claim, ...]:
    """The claims that a module defines, and those that it imported by name."""
    named = (value for value in vars(module).values() if isinstance(value, Claim))
    return _unique((*getattr(module, _KEPT_AS, ()), *named))


def _unique(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """The same objects once each, in order; a topic may import another topic's claim."""
    return tuple({id(one): one for one in claims}.values())


def _load_file(path: Path) -> ModuleType:
    """Execute a file as a fresh module, under a name of its own, so that nothing stale is reused."""
    name = f"proofs_check_file_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ClaimFileError(f"Python cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        with _on_import_path(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _on_import_path(directory: Path) -> Iterator[None]:
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(directory))
