"""Moving data: the only functions that carry arrays between libraries, devices and the host."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import array_api_compat as compat
import numpy as np

from .errors import BackendError
from .namespaces import Array, array_namespace, check_choice

BACKENDS = ("numpy", "cupy", "torch", "jax", "array_api_strict")
_MODULES = {"numpy": "numpy", "cupy": "cupy", "torch": "torch", "jax": "jax.numpy"}
_INSTALL = {
    "cupy": "install it with pip install 'grng-ref[cuda12]' (or cuda13, after your driver)",
    "torch": "install PyTorch (pip install torch)",
    "jax": "install JAX (pip install jax)",
    "array_api_strict": "install it with pip install array-api-strict",
}
_DTYPES = ("float64", "float32")


def map_arrays(function: Callable[[Array], Array], tree: Any) -> Any:
    """Apply a function to every array in a tree of tuples, lists, dicts and dataclasses.

    Everything else (numbers, strings, None, callables) stays as it is.
    """
    if compat.is_array_api_obj(tree):
        return function(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        values = {f.name: getattr(tree, f.name) for f in dataclasses.fields(tree) if f.init}
        return dataclasses.replace(tree, **{k: map_arrays(function, v) for k, v in values.items()})
    if isinstance(tree, tuple):
        items = [map_arrays(function, item) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    if isinstance(tree, list):
        return [map_arrays(function, item) for item in tree]
    if isinstance(tree, dict):
        return {key: map_arrays(function, value) for key, value in tree.items()}
    return tree


def asarray(tree: Any, *, backend: str, dtype: str | None = None, device: Any = None) -> Any:
    """Move every array of a tree to a backend, a dtype and a device.

    Parameters
    ----------
    tree : array, or tuple, list, dict, dataclass (problem, optimizer state, belief) that holds arrays
        Numbers, strings and None inside a container stay as they are.
    backend : {"numpy", "cupy", "torch", "jax", "array_api_strict"}
    dtype : {None, "float64", "float32"}
        ``None`` keeps each dtype; otherwise floating arrays are cast and all others kept.
    device : optional
        A device of that backend, or its name (``"cuda:0"``, ``"device1"``). ``None`` leaves arrays of that
        backend where they are and puts others on its default device.

    Returns
    -------
    The same tree with its arrays moved. An array that already fits is returned as it is.

    Raises
    ------
    TypeError
        The tree is neither an array nor a container.
    ValueError
        Unknown backend or dtype.
    BackendError
        The backend is not installed, has no such device or dtype, or would silently give float32 for float64.

    Notes
    -----
    What is copied to another library never shares memory with the original. A PyTorch tensor that requires
    grad arrives elsewhere detached.
    """
    check_choice("backend", backend, BACKENDS)
    if dtype is not None:
        check_choice("dtype", dtype, _DTYPES)
    _check_tree(tree)
    xp = load_backend(backend)
    where = _find_device(backend, xp, device)

    def move(array: Array) -> Array:
        if dtype is None and backend == "numpy" and compat.is_numpy_array(array):
            return array  # its byte order, too, is kept
        wanted = dtype_name(array)
        if dtype is not None and wanted.startswith("float"):
            wanted = dtype
        return _move(array, backend, xp, wanted, where)

    return map_arrays(move, tree)


def to_numpy(tree: Any) -> Any:
    """Copy every array of a tree to the host as NumPy arrays; NumPy arrays are returned as they are.

    Raises
    ------
    TypeError
        The tree is neither an array nor a container.
    """
    _check_tree(tree)
    return map_arrays(_to_host, tree)


def row_major_copy(tree: Any) -> Any:
    """A tree with every array copied into row-major order, its library, dtype and device kept.

    For what a state keeps of a step: nothing that a caller may overwrite, and in the memory order that a
    loaded state has, on which the last bits of the next matrix products depend.
    """

    def copy(array: Array) -> Array:
        xp = array_namespace(array)
        flat = xp.asarray(xp.reshape(array, (-1,)), copy=True)
        return xp.reshape(flat, tuple(array.shape))

    return map_arrays(copy, tree)


def from_host(values: np.ndarray, template: Array, *, dtype: Any = None) -> Array:
    """A host array as one of the template's library and device (and its dtype unless given)."""
    xp = array_namespace(template)
    kind = template.dtype if dtype is None else dtype
    return xp.asarray(values, dtype=kind, device=compat.device(template))


def dtype_name(array: Array) -> str:
    """A dtype's standard name, for example ``"float64"``, in any backend."""
    own = getattr(array.dtype, "name", None)  # NumPy's says float64 for either byte order
    return own if isinstance(own, str) else str(array.dtype).rpartition(".")[2]


def load_backend(backend: str) -> ModuleType:
    """The array-API namespace of a backend that is installed and usable.

    Raises
    ------
    BackendError
        Not installed, or (CuPy) installed without a usable GPU.
    """
    try:
        if backend == "array_api_strict":
            return importlib.import_module("array_api_strict")
        module = importlib.import_module(_MODULES[backend])
    except ImportError as error:
        raise BackendError(
            f"backend {backend!r} is not installed ({error}): {_INSTALL[backend]}, or use backend='numpy'"
        ) from error
    if backend == "cupy":
        _check_gpu(module)
    if backend == "jax":
        return module
    return importlib.import_module(f"array_api_compat.{backend}")


def _check_gpu(cupy: ModuleType) -> None:
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CUDARuntimeError has no stable import path without CUDA libraries
        raise BackendError(
            f"backend 'cupy' is installed but has no usable GPU ({error}): check the driver with "
            "nvidia-smi, or use backend='numpy'"
        ) from error
    if count == 0:
        raise BackendError("backend 'cupy' is installed but finds no GPU: use backend='numpy'")


def _find_device(backend: str, xp: ModuleType, device: Any) -> Any:
    """The backend's own device object for a device or its name; None stays None."""
    if device is None:
        return None
    try:
        if backend == "numpy":
            if device != "cpu":
                raise ValueError("NumPy has only the device 'cpu'")
        elif backend == "array_api_strict":
            return device if isinstance(device, xp.Device) else xp.Device(str(device))
        elif backend == "torch":
            torch = importlib.import_module("torch")
            return torch.empty(0, device=device).device  # a device object alone says nothing: try it
        elif backend == "cupy":
            cuda = importlib.import_module("cupy").cuda
            return (
                device
                if isinstance(device, cuda.Device)
                else cuda.Device(int(str(device).rpartition(":")[2]))
            )
        elif backend == "jax" and isinstance(device, str):
            kind, _, index = device.partition(":")
            return importlib.import_module("jax").devices(kind)[int(index or 0)]
    except Exception as error:  # each library has its own error type for an unknown device
        raise BackendError(f"backend {backend!r} has no device {device!r}: {_brief(error)}") from error
    return device


def _move(array: Array, backend: str, xp: ModuleType, wanted: str, where: Any) -> Array:
    own = array_namespace(array)
    here = own is xp and (where is None or compat.device(array) == where)
    if here and dtype_name(array) == wanted and getattr(array.dtype, "isnative", True):
        return array
    if not hasattr(xp, wanted):
        raise BackendError(f"backend {backend!r} has no dtype {wanted}: cast the array to one that it has")
    if backend == "jax":
        _check_jax_dtype(wanted)
    if here:
        return own.astype(array, getattr(own, wanted))
    host = _to_host(array)
    if backend == "numpy":
        return host.astype(wanted, copy=False)
    try:
        # A copy: PyTorch and JAX would share the host's memory.
        moved = xp.asarray(np.array(host, order="C"), dtype=getattr(xp, wanted), device=where)
    except (TypeError, ValueError, RuntimeError) as error:
        message = f"backend {backend!r} cannot hold {wanted} on device {where}: {_brief(error)}"
        raise BackendError(message) from error
    if dtype_name(moved) != wanted:
        raise BackendError(f"backend {backend!r} would silently give {dtype_name(moved)} for {wanted}")
    return moved


def _check_jax_dtype(wanted: str) -> None:
    """JAX only warns, and halves the precision, unless it was told to allow 64 bits."""
    given = str(importlib.import_module("jax").dtypes.canonicalize_dtype(wanted))
    if given != wanted:
        raise BackendError(
            f"backend 'jax' would silently give {given} for {wanted}: enable it "
            f"(JAX_ENABLE_X64=1, or jax.config.update('jax_enable_x64', True)) or cast it to {given} first"
        )


def _brief(error: Exception) -> str:
    """The first line of a library's message: PyTorch adds pages to it."""
    return str(error).partition("\n")[0][:200]


def _to_host(array: Array) -> np.ndarray:
    """A NumPy array as it is; any other copied."""
    if compat.is_numpy_array(array):
        return array
    if compat.is_cupy_array(array):
        return array.get()
    if compat.is_torch_array(array):
        if not hasattr(np, dtype_name(array)):
            raise BackendError(f"NumPy has no dtype {dtype_name(array)}: cast the tensor to one that it has")
        return array.detach().cpu().numpy().copy()  # a CPU tensor's numpy() shares its memory
    if type(array).__module__.startswith("array_api_strict"):
        strict = array_namespace(array)
        array = array.to_device(strict.Device("CPU_DEVICE"))
    return np.array(array)


def _only_numbers(tree: Any) -> bool:
    """Whether a value is a number or a (nested) list of numbers, which somebody took for an array."""
    if isinstance(tree, tuple | list):
        return len(tree) > 0 and all(_only_numbers(item) for item in tree)
    return isinstance(tree, int | float) and not compat.is_array_api_obj(tree)


def _check_tree(tree: Any) -> None:
    container = isinstance(tree, tuple | list | dict) or (
        dataclasses.is_dataclass(tree) and not isinstance(tree, type)
    )
    numbers_only = isinstance(tree, tuple | list) and not hasattr(tree, "_fields") and _only_numbers(tree)
    if numbers_only or not (container or compat.is_array_api_obj(tree)):
        raise TypeError(
            f"gr.asarray and gr.to_numpy move arrays and containers of arrays, got {type(tree).__name__}"
            f"{' of numbers' if numbers_only else ''}; make an array first, for example with numpy.asarray"
        )
