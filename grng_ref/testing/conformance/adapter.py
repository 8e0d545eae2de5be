"""What is submitted: adapters with one method a stage, and result files of foreign programs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...arrays import BackendError, asarray, to_numpy
from ..vectors.stages import STAGES
from .layouts import PARAMETER_AXES

STAGE_NAMES = tuple(stage.name for stage in STAGES)


class CaseView:
    """A case as an adapter sees it: inputs in its library and dtype, the settings as numbers.

    ``theta``, ``x``, ``y``, ``v``, ``samples``, ``probes`` and ``layers``, a list of pairs ``(W, b)``, b None
    without bias; ``batch(step)`` with ``.x .y .samples .probes``; every setting of the optimizer by its name
    (``lr``, ``damping``, ``rho``, ...; None where the case has none), and ``settings(step)``, all of them at a
    step: those in ``schedules`` change; ``network``, ``likelihood``,
    ``curvature``, ``optimizer``, ``steps``, ``id``, ``flags``.
    """

    def __init__(self, case: Any, library: str, dtype: str) -> None:
        self.id, self.flags, self.steps = case.id, case.flags, case.steps
        self.network, self.likelihood = case.network, case.likelihood
        self.curvature, self.optimizer = case.curvature, case.optimizer
        self.schedules, self.settings = case.schedules, case.settings
        self._case, self._library, self._dtype = case, library, dtype
        self.theta, self.x, self.y, self.v = (self._put(a) for a in (case.theta, case.x, case.y, case.v))
        self.samples, self.probes = self._put(case.samples), self._put(case.probes)
        bias = case.network.get("bias", True)
        self.layers = [
            (self._put(np.array(m[:, :-1])), self._put(np.array(m[:, -1]))) if bias else (self._put(m), None)
            for m in (np.asarray(m) for m in case.problem().unpack(case.theta))
        ]

    def _put(self, array: Any) -> Any:
        """A copy: an adapter that works in place must not change the case that it is judged by."""
        return None if array is None else asarray(np.array(array), backend=self._library, dtype=self._dtype)

    def batch(self, step: int) -> Any:
        """What a step sees."""
        batch = self._case.batch(step)
        return type(batch)(*(self._put(part) for part in batch))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.optimizer.get(name)


class ResultFiles:
    """Result files of a foreign program as an adapter: one ``<case id>.safetensors`` or ``.npz`` a case.

    ``conventions.json`` in the directory may hold the keys ``dtype``, ``conventions``, ``expected_failures``.
    """

    library = "numpy"

    def __init__(self, directory: str | Path) -> None:
        import json

        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise FileNotFoundError(f"no such directory of results: {directory}")
        said = self.directory / "conventions.json"
        settings = json.loads(said.read_text(encoding="utf-8")) if said.is_file() else {}
        self.dtype = settings.get("dtype", "float64")
        self.conventions = settings.get("conventions", {})
        self.expected_failures = settings.get("expected_failures", {})

    def results(self, case: Any) -> dict[str, Any]:
        """Arrays by the names of the case's expected arrays."""
        for suffix in (".safetensors", ".npz"):
            path = self.directory / f"{case.id}{suffix}"
            if path.is_file():
                if suffix == ".npz":
                    with np.load(path, allow_pickle=False) as stored:
                        return {name: stored[name] for name in stored.files}
                from safetensors.numpy import load_file

                return dict(load_file(path))
        return {}


def load_adapter(where: str) -> Any:
    """The object ``module:object``, the current directory on the path; a class is instantiated."""
    module, _, name = where.partition(":")
    if not name:
        raise ValueError(f"adapter must be module:object, got {where!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found() if isinstance(found, type) else found


def submitted(adapter: Any, case: Any, view: CaseView | None, stage: str) -> tuple[Any, ...] | None:
    """The stage's arrays on the host, in float64; None where the adapter does not have the stage."""
    names = [key for key in case.expected if key.split(".")[0] == stage]
    if isinstance(adapter, ResultFiles):
        stored = adapter.results(case)
        if any(name not in stored for name in names):
            return None
        return tuple(_shaped(stage, _host(stored[name])) for name in names)
    method = getattr(adapter, stage, None)
    if method is None:
        return None
    result = method(view)
    if result is None:
        return None
    return _arrays(case, stage, result, len(names))


def _arrays(case: Any, stage: str, result: Any, count: int) -> tuple[Any, ...]:
    if stage in PARAMETER_AXES and isinstance(result, list | tuple):
        if stage in ("parameters", "belief_mean"):
            return (np.stack([_flat(row) for row in result]),)
        return (_flat(result),)
    if stage == "factors":
        flat = [_host(part) for pair in result for part in pair]
        if len(flat) != count:
            raise ValueError(f"factors must be {count // 2} pairs (A, G), got {len(flat) // 2}")
        return tuple(flat)
    if stage in ("activations", "score_signals"):
        return tuple(_host(part) for part in result)
    return (_shaped(stage, _host(result)),)


def _shaped(stage: str, array: Any) -> Any:
    """A loss of one entry is a number."""
    return array.reshape(()) if stage == "loss" and array.size == 1 else array


def _flat(result: Any) -> Any:
    """One flat vector of an array, or of per-layer matrices or pairs ``(W, b)``."""
    if not isinstance(result, list | tuple):
        return _host(result)
    parts = []
    for layer in result:
        if isinstance(layer, list | tuple):
            W, b = layer
            W = _host(W)
            layer = W if b is None else np.concatenate([W, _host(b).reshape(-1, 1)], axis=1)
        parts.append(_host(layer).ravel())
    return np.concatenate(parts)


def _host(array: Any) -> Any:
    if hasattr(array, "detach"):
        array = array.detach()
    try:
        array = to_numpy(array)
    except (TypeError, BackendError):
        array = np.asarray(array)
    array = np.asarray(array)
    if array.dtype == object or not np.issubdtype(array.dtype, np.number):
        raise TypeError(f"results must be arrays of numbers, got {array.dtype}")
    return array.astype(np.float64)


def settings_of(adapter: Any) -> tuple[str, str, Mapping[str, Any], Mapping[str, str]]:
    """Library, dtype, conventions and expected failures that the adapter declares, checked."""
    dtype = str(getattr(adapter, "dtype", "float64"))
    if dtype not in ("float64", "float32"):
        raise ValueError(f"the adapter's dtype must be 'float64' or 'float32', got {dtype!r}")
    library = getattr(adapter, "library", "numpy")
    return (
        library,
        dtype,
        getattr(adapter, "conventions", {}) or {},
        getattr(adapter, "expected_failures", {}) or {},
    )
