"""What is submitted: adapters with one method a stage, and what they declare."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from copy import deepcopy
from inspect import getattr_static
from types import ModuleType
from typing import Any

import numpy as np

from ...arrays import BACKENDS, BackendError, asarray, to_numpy
from ..vectors.case import SETTINGS
from ..vectors.stages import STAGES
from .layouts import PARAMETER_AXES, places
from .names import nearest, unknown

STAGE_NAMES = tuple(stage.name for stage in STAGES)
# attributes beside the stages
DECLARED = ("library", "dtype", "conventions", "expected_failures")
_CASE_SETTINGS = sorted({name for settings in SETTINGS.values() for name in settings})
_VECTORS = tuple(stage for stage, axes in PARAMETER_AXES.items() if axes == (0,))
_STEPS = ("parameters", "belief_mean")  # a vector a step


class UserCodeError(ValueError):
    """The user's own code raised while the adapter was made; its exception is the cause."""


class CaseView:
    """A case as an adapter sees it: inputs in its library and dtype, the settings as numbers.

    ``theta``, ``x``, ``y``, ``v``, ``samples``, ``probes`` and ``layers``, a list of pairs ``(W, b)``, b None
    without bias; ``frozen``, the pairs of frozen layers by index; ``scales``, the factor c of every layer's
    input; ``batch(step)`` with ``.x .y .samples .probes``; ``stage(name)``, the expected result of another
    stage; every setting of the optimizer by its name (``lr``, ``damping``, ``rho``, ...; None where the case
    has none), and ``settings(step)``, all of them at a step: those in ``schedules`` change; ``network``,
    ``likelihood``, ``curvature``, ``optimizer``, ``steps``, ``id``, ``flags``.
    """

    def __init__(self, case: Any, library: str, dtype: str) -> None:
        self.id, self.flags, self.steps = case.id, case.flags, case.steps
        self.network, self.likelihood = deepcopy(case.network), deepcopy(case.likelihood)
        self.curvature, self.optimizer = deepcopy(case.curvature), deepcopy(case.optimizer)
        self.schedules, self.settings = deepcopy(case.schedules), case.settings
        self._case, self._library, self._dtype = case, library, dtype
        self.theta, self.x, self.y, self.v = (self._put(a) for a in (case.theta, case.x, case.y, case.v))
        self.samples, self.probes = self._put(case.samples), self._put(case.probes)
        problem = case.problem()
        self.scales = tuple(problem.model.layer_scales)
        self.layers = [self._pair(matrix) for matrix in problem.unpack(case.theta)]
        self.frozen = {i: self._pair(case.inputs[f"frozen.{i}"]) for i in case.network.get("frozen", ())}

    def _put(self, array: Any) -> Any:
        """A copy: an adapter that works in place must not change the case that it is judged by."""
        return None if array is None else asarray(np.array(array), backend=self._library, dtype=self._dtype)

    def _pair(self, matrix: Any) -> tuple[Any, Any]:
        matrix = np.asarray(matrix)
        if not self.network.get("bias", True):
            return self._put(matrix), None
        return self._put(matrix[:, :-1]), self._put(matrix[:, -1])

    def batch(self, step: int) -> Any:
        """What a step sees."""
        batch = self._case.batch(step)
        return type(batch)(*(self._put(part) for part in batch))

    def stage(self, name: str) -> Any:
        """What is expected of a stage, for adapters of what comes after it; a tuple where it has several."""
        return _mapped(self._put, self._case.stage(name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in _CASE_SETTINGS and name not in self.optimizer:
            raise AttributeError(unknown("case has no", name, [*_CASE_SETTINGS, *vars(self)]))
        return self.optimizer.get(name)


def _mapped(function: Any, tree: Any) -> Any:
    return tuple(_mapped(function, part) for part in tree) if isinstance(tree, tuple) else function(tree)


# --- the object --------------------------------------------------------------------------------------------


def load_adapter(where: str) -> Any:
    """The object ``module:object``, the current directory on the path; a class is instantiated.

    Raises
    ------
    ValueError
        No such module or object. `UserCodeError`, with its exception as the cause: the module or the class
        raised.
    """
    module, _, name = where.partition(":")
    if not module or not name or module.endswith(".py"):
        raise ValueError(
            f"adapter must be module:object, such as mine:MyOptimizer for mine.py, got {where!r}"
        )
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module}.".startswith(f"{missing}."):
            raise ValueError(f"no module {missing!r} in the current directory, or installed") from None
        raise UserCodeError(f"{module} could not be imported: {_said(error)}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(unknown(f"{module} has no", part, [n for n in dir(found) if n[0] != "_"]))
        found = getattr(found, part)
    if not isinstance(found, type):
        return found
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise UserCodeError(f"{name}() raised {_said(error)}") from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def settings_of(adapter: Any) -> tuple[str, str, Mapping[str, str], Mapping[str, str]]:
    """Library, dtype, conventions and expected failures that the adapter declares, checked."""
    library, dtype = _attribute(adapter, "library") or "numpy", _attribute(adapter, "dtype") or "float64"
    if library not in BACKENDS:
        raise ValueError(unknown("the adapter's library is", library, BACKENDS))
    if dtype not in ("float64", "float32"):
        raise ValueError(f"the adapter's dtype must be 'float64' or 'float32', got {dtype!r}")
    conventions, failures = (
        _texts(name, _attribute(adapter, name), example)
        for name, example in (
            ("conventions", '{"loss": "sum"}'),
            ("expected_failures", '{"case-id/stage": "reason"}'),
        )
    )
    return library, dtype, conventions, failures


def _attribute(adapter: Any, name: str) -> Any:
    try:
        return getattr(adapter, name, None)
    except Exception as error:
        raise UserCodeError(f"the adapter's {name} raised {_said(error)}") from error


def _texts(name: str, found: Any, example: str) -> Mapping[str, str]:
    if found is None:
        return {}
    right = isinstance(found, Mapping) and all(
        isinstance(part, str) for pair in found.items() for part in pair
    )
    if not right:
        raise ValueError(
            f"the adapter's {name} must be a mapping of text to text, such as {example}, got {found!r}"
        )
    return dict(found)


def check_expected_failures(failures: Iterable[str], cases: Iterable[Any], known: Iterable[str]) -> None:
    """Every key must name a stage, or a case and one of its stages; another would excuse nothing."""
    stages = {case.id: case.stages for case in cases}
    for key in failures:
        case, slash, stage = key.rpartition("/")
        if stage not in STAGE_NAMES:
            raise ValueError(unknown(f"expected_failures has {key!r}, the stage", stage, STAGE_NAMES))
        if slash and case not in known:
            raise ValueError(unknown(f"expected_failures has {key!r}, the case", case, known))
        if stage not in stages.get(case, STAGE_NAMES):
            raise ValueError(
                f"expected_failures has {key!r}; the case has no such stage; it has {', '.join(stages[case])}"
            )


def offers(adapter: Any, stage: str) -> bool:
    """Whether there is a method for the stage. A property that raises is one: its failure is a finding."""
    try:
        return callable(getattr(adapter, stage, None))
    except Exception:  # noqa: BLE001  of the user's code
        return True


def check_names(adapter: Any) -> tuple[str, ...]:
    """Refuses names that are slips of a stage or of a declaration; else what is to be remarked on names.

    A method that is named nearly as a stage would be passed over in silence.
    """
    present = [name for name in dir(adapter) if not name.startswith("_")]
    offered = [name for name in STAGE_NAMES if offers(adapter, name)]
    stages = [name for name in STAGE_NAMES if name not in offered]
    declared = [name for name in DECLARED if name not in present and name != "dtype"]
    own = {} if isinstance(adapter, ModuleType) else vars(type(adapter))
    for name in stages:
        if name in present and getattr_static(adapter, name) is not None:
            raise ValueError(f"the adapter's {name!r} must be a method, got {getattr(adapter, name)!r:.60}")
    others = []
    for name in present:
        if name in STAGE_NAMES or name in DECLARED:
            continue
        static = getattr_static(adapter, name, None)
        method = not isinstance(static, property) and offers(adapter, name)
        near = nearest(name, stages if method else declared)
        if near is not None:
            what = "method" if method else "attribute"
            raise ValueError(
                f"the adapter's {what} {name!r} has no meaning here: did you mean {near!r}? "
                "Begin names of your own with an underscore"
            )
        if method and name in own:
            others.append(name)
    remarks = [f"methods that are no stages, not checked: {', '.join(others)}"] if others else []
    if not offered:
        remarks.append(f"the adapter has no method that is named as a stage: {', '.join(STAGE_NAMES)}")
    return tuple(remarks)


# --- results -----------------------------------------------------------------------------------------------


def submitted(
    adapter: Any, case: Any, view: CaseView, stage: str, layout: str | None
) -> tuple[Any, ...] | None:
    """The stage's arrays on the host, in float64, flat ones in the declared layout; None without a result."""
    result = getattr(adapter, stage)(view)
    if result is None:
        return None
    if stage in _VECTORS and isinstance(result, list | tuple):
        return (_flat(case, result, layout),)
    if stage in _STEPS and isinstance(result, list | tuple):
        return (np.stack([_flat(case, row, layout) for row in result]),)
    if stage == "factors":
        return tuple(on_host(part) for A, G in result for part in (A, G))
    if stage in ("activations", "score_signals"):
        return tuple(on_host(part) for part in result)
    return (shaped(stage, on_host(result)),)


def shaped(stage: str, array: Any) -> Any:
    """A loss of one entry is a number."""
    return array.reshape(()) if stage == "loss" and array.size == 1 else array


def _flat(case: Any, result: Any, layout: str | None) -> Any:
    """One vector of an array, or of what is given layer by layer, put into the declared layout."""
    if not isinstance(result, list | tuple) or all(_is_number(part) for part in result):
        return on_host(result)
    problem = case.problem()
    model, parts = problem.model, list(result)
    shapes = [model.shapes[index] for index in model.trainable]
    if model.bias and len(parts) == 2 * len(shapes) and not any(isinstance(p, list | tuple) for p in parts):
        parts = list(zip(parts[::2], parts[1::2], strict=True))
    if len(parts) != len(shapes):
        raise ValueError(
            f"needs a matrix or a pair (W, b) for each of {len(shapes)} layers, got {len(parts)} parts"
        )
    whole = layout != "no bias"
    layers = [_layer(part, shape, model.bias, whole) for part, shape in zip(parts, shapes, strict=True)]
    vector = np.concatenate([layer.ravel() for layer in layers])
    return vector if layout is None else vector[places(problem, layout)]


def _is_number(part: Any) -> bool:
    return not isinstance(part, list | tuple) and np.ndim(part) == 0


def _layer(part: Any, shape: tuple[int, int], bias: bool, whole: bool) -> Any:
    """The matrix of a layer, bias last; a bias that the declared layout leaves out is zero."""
    pair = isinstance(part, list | tuple)
    if pair and len(part) != 2:
        raise ValueError(f"a layer must be a matrix or a pair (W, b), got {len(part)} parts")
    W, b = (on_host(part[0]), part[1]) if pair else (on_host(part), None)
    needed = (shape[0], shape[1] - bias) if pair else shape
    if W.shape != needed:
        raise ValueError(f"a layer's {'W' if pair else 'matrix'} has shape {W.shape}, needed is {needed}")
    if not pair or not bias:
        if b is not None:
            raise ValueError("a layer's pair (W, b) has a bias, and the network has none: b must be None")
        return W
    if b is None and whole:
        raise ValueError("a layer's pair (W, b) lacks the bias that the network has: b is None")
    b = np.zeros(shape[0]) if b is None else on_host(b)
    if b.size != shape[0]:
        raise ValueError(f"a layer's b has shape {b.shape}, needed is {shape[:1]}")
    return np.concatenate([W, b.reshape(-1, 1)], axis=1)


def on_host(array: Any) -> Any:
    """A NumPy copy in float64 of an array of any library.

    Raises
    ------
    TypeError
        No real numbers.
    """
    if np.ma.isMaskedArray(array):
        raise TypeError("results must be arrays of numbers, got a masked array")
    if hasattr(array, "detach"):
        array = array.detach()
    try:
        array = to_numpy(array)
    except (TypeError, BackendError):
        array = np.asarray(array)
    array = np.asarray(array)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise TypeError(f"results must be arrays of real numbers, got {array.dtype}")
    return array.astype(np.float64)
