"""Problem instances for claims: real images, and small synthetic problems of every likelihood.

An instance holds its arrays in the run's backend and dtype, and gives back the same numbers in float64 on the
host, so that a reference in `proofs_check.oracles` differs by the rounding of the computation alone, never by
that of its input.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import grng_ref as gr

from .context import Run

LIKELIHOODS = {
    "gaussian": gr.Gaussian,
    "categorical": gr.Categorical,
    "bernoulli": gr.Bernoulli,
    "poisson": gr.Poisson,
}

LABELS = np.int32
"""Dtype of class labels: every backend has it, also JAX with 64-bit numbers switched off."""

# (likelihood, sizes, architecture): the four likelihoods, all activations, both parameterizations, no bias
SMALL: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
    ("gaussian", (3, 4, 2), {"activation": "tanh"}),
    ("categorical", (3, 4, 3), {"activation": "gelu", "parameterization": "ntk"}),
    ("bernoulli", (2, 4, 2), {"activation": "softplus"}),
    ("poisson", (3, 4, 2), {"activation": "silu", "bias": False}),
    ("gaussian", (2, 3, 3, 1), {"activation": "identity"}),
    ("categorical", (4, 3, 4), {"activation": "relu"}),
    ("bernoulli", (3, 3, 1), {"activation": "sigmoid", "parameterization": "ntk"}),
)


@dataclass(frozen=True, eq=False)
class Instance:
    """A problem at one theta with one batch.

    Attributes
    ----------
    run : Run
        Whose backend, dtype and device the arrays have.
    name : str
        For the texts of findings.
    problem : gr.Problem
    theta, x, y : arrays
    likelihood : {"gaussian", "categorical", "bernoulli", "poisson"}
        The oracles' name of it.
    variance : float
        Of a Gaussian likelihood.
    architecture : dict
        What ``proofs_check.oracles.mlp_outputs`` takes by keyword: sizes, activation, ...
    """

    run: Run
    name: str
    problem: gr.Problem
    theta: Any
    x: Any
    y: Any
    likelihood: str
    variance: float = 1.0
    architecture: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``theta, x, y`` on the host, the same numbers: floats in float64, labels as they are."""
        theta, x, y = gr.to_numpy((self.theta, self.x, self.y))
        labels = y if y.dtype.kind in "iu" else y.astype(np.float64)
        return theta.astype(np.float64), x.astype(np.float64), labels

    @property
    def num_examples(self) -> int:
        """N."""
        return int(self.x.shape[0])

    def outputs(self) -> np.ndarray:
        """Outputs f (N, K) at theta, on the host."""
        return on_host(self.problem.outputs(self.theta, self.x))

    def gradient(self) -> Any:
        """The gradient (P,) of the mean loss at theta, on the observed labels."""
        return self.problem.gradient(self.theta, self.x, self.y)

    def fisher(self, structure: str = "full") -> gr.Curvature:
        """The expected Fisher at theta, in a structure."""
        return gr.fisher(self.problem, self.theta, self.x, structure=structure)

    def dense_fisher(self, structure: str = "full") -> np.ndarray:
        """The same as a matrix (P, P) on the host."""
        return on_host(self.fisher(structure).to_dense())

    @property
    def layer_slices(self) -> list[slice]:
        """Where each layer's parameters sit in theta."""
        stops = np.cumsum([layer.size for layer in self.problem.unpack(self.host[0])])
        return [slice(int(a), int(b)) for a, b in zip([0, *stops[:-1]], stops, strict=True)]

    def layer_blocks(self, matrix: np.ndarray) -> list[np.ndarray]:
        """The diagonal block of every layer, cut out of a matrix (P, P)."""
        return [matrix[part, part] for part in self.layer_slices]

    def step(self, optimizer: gr.Optimizer) -> Any:
        """An optimizer's first step (P,) from theta, on the whole batch."""
        return optimizer.update(self.theta, optimizer.init(self.theta), self.x, self.y)[0]

    def batches(self, size: int) -> Iterator[tuple[Any, Any]]:
        """Consecutive batches ``x, y`` of so many examples; the last may have fewer."""
        for start in range(0, self.num_examples, size):
            part = slice(start, min(start + size, self.num_examples))  # beyond the end: not in the standard
            yield self.x[part, ...], self.y[part, ...]


def on_host(array: Any) -> np.ndarray:
    """An array of any backend as NumPy's, in float64."""
    return gr.to_numpy(array).astype(np.float64)


def small_instances(run: Run, *, num_examples: int, key: int = 0) -> tuple[Instance, ...]:
    """One small synthetic problem for each line of `SMALL`."""
    return tuple(
        synthetic(run, likelihood, sizes, num_examples=num_examples, key=(key, index), **architecture)
        for index, (likelihood, sizes, architecture) in enumerate(SMALL)
    )


def synthetic(
    run: Run,
    likelihood: str,
    sizes: Sequence[int],
    *,
    num_examples: int,
    key: Sequence[int] = (),
    variance: float = 0.5,
    **architecture: Any,
) -> Instance:
    """Normal inputs, labels of the likelihood's kind that owe nothing to the model, biases not zero.

    Parameters
    ----------
    key : sequence of int
        Key of the draws, besides the run's seed.
    variance : float
        Of a Gaussian likelihood.
    **architecture
        Keyword arguments of ``gr.MLP``.
    """
    rng = run.rng(*key)
    x = rng.normal(size=(num_examples, sizes[0]))
    shape = (num_examples, sizes[-1])
    labels: np.ndarray
    if likelihood == "categorical":
        labels = rng.integers(sizes[-1], size=num_examples).astype(LABELS)
    elif likelihood == "gaussian":
        labels = rng.normal(size=shape)
    else:
        labels = (
            rng.poisson(1.0, size=shape) if likelihood == "poisson" else rng.integers(2, size=shape)
        ) * 1.0
    return _instance(run, likelihood, sizes, x, labels, rng, variance, architecture)


def digits(
    run: Run,
    sizes: Sequence[int],
    *,
    num_examples: int,
    key: Sequence[int] = (),
    likelihood: str = "categorical",
    target_scale: float = 1.0,
) -> Instance:
    """Real images: handwritten digits of 8 x 8 pixels, scaled to [0, 1], drawn without replacement.

    The 1797 images ship with scikit-learn (Alpaydin and Kaynak 1998). A categorical likelihood observes the
    digit, the others (Bernoulli, Gaussian with variance 1) its one-hot vector times ``target_scale``;
    ``sizes`` starts with 64 and ends with 10.

    Raises
    ------
    ModuleNotFoundError
        scikit-learn is not installed.
    """
    rng = run.rng(*key)
    images, labels = load_digits()
    chosen = rng.permutation(len(images))[:num_examples]
    x, y = images[chosen], labels[chosen]
    targets = y if likelihood == "categorical" else target_scale * np.eye(10)[y]
    return _instance(run, likelihood, sizes, x, targets, rng, 1.0, {"activation": "tanh"}, origin="digits")


@functools.cache
def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """The images (1797, 64), pixels in [0, 1], and their digits (1797,).

    Raises
    ------
    ModuleNotFoundError
        scikit-learn is not installed.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the digits images come with scikit-learn, which is not installed: pip install 'grng-ref[verify]'"
        ) from error
    bunch = datasets.load_digits()
    images, labels = bunch.data / 16.0, bunch.target.astype(LABELS)
    images.flags.writeable = labels.flags.writeable = False  # one copy serves every claim
    return images, labels


def _instance(
    run: Run,
    likelihood: str,
    sizes: Sequence[int],
    x: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
    variance: float,
    architecture: dict[str, Any],
    origin: str = "",
) -> Instance:
    model = gr.MLP(tuple(sizes), **architecture)
    observed = gr.Gaussian(variance) if likelihood == "gaussian" else LIKELIHOODS[likelihood]()
    problem = gr.Problem(model, observed)
    theta = problem.init(rng) + 0.1 * rng.normal(size=problem.num_parameters)
    shape = "-".join(map(str, sizes))
    name = f"{origin or 'synthetic'} {shape} {architecture.get('activation', 'tanh')} {likelihood}"
    theta, x, y = run.asarray((theta, x, y))
    return Instance(
        run, name, problem, theta, x, y, likelihood, variance, {"sizes": tuple(sizes), **architecture}
    )
