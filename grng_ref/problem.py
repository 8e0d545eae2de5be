"""A model joined with a likelihood: everything that p(y | x, theta) offers an optimizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .arrays import (
    Array,
    NumericalError,
    check_choice,
    check_finite,
    check_integer,
    check_shape,
    like,
    namespace,
    namespace_of_mixed,
)
from .arrays.linalg import identity, transpose
from .likelihoods import Likelihood
from .models import MLP, derivatives
from .models.derivatives import Layers, Trace

KINDS = ("expected", "monte_carlo", "empirical")
_HESSIAN_WORKSPACE = 2**22  # entries of one tangent array; bounds the memory of a dense Hessian


class Linearization(NamedTuple):
    """One linearisation of the problem at theta: what a natural-gradient or Kalman step needs."""

    loss: Array  #: 0-d, mean over examples
    gradient: Array  #: (P,), of the mean loss
    activations: Layers  #: ``abar_l`` (N, d_in[+1]) of the trainable layers
    signals: Layers  #: ``D_l`` (N, K', d_out) of the trainable layers
    coefficients: Array | None  #: c (N K') with ``g = B^T c``; None where the kind has none or it overflows
    samples: Array | None  #: the labels drawn for a Monte-Carlo Fisher


@dataclass(frozen=True, eq=False)
class Problem:
    """A model and a likelihood: ``L(theta) = (1/N) sum_n l(f(x_n; theta), y_n)``.

    Arrays in, the same kind of array out: the library, dtype and device are those of theta.

    Parameters
    ----------
    model : MLP
    likelihood : Likelihood
        `Gaussian`, `Categorical`, `Bernoulli`, `Poisson`, or an object of that protocol.
    check_finite : bool
        Whether inputs and results are checked for NaN and infinities; a few scalar synchronisations a
        call on a GPU.

    Notes
    -----
    ``x`` is (N, d_0); ``y`` is (N, K) floats, or (N,) integers for a categorical likelihood. Every method
    raises TypeError or ValueError for bad arguments, naming them, and NumericalError for a result that is
    not finite.
    """

    model: MLP
    likelihood: Likelihood
    check_finite: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.model, MLP):
            raise TypeError(f"model must be an MLP, got {type(self.model).__name__}")
        if isinstance(self.likelihood, type) or not isinstance(self.likelihood, Likelihood):
            got = getattr(self.likelihood, "__name__", type(self.likelihood).__name__)
            raise TypeError(f"likelihood must be an object such as gr.Categorical(), got {got}")

    # --- parameters ----------------------------------------------------------------------------------

    @property
    def num_parameters(self) -> int:
        """Length P of theta."""
        return self.model.num_parameters

    def init(
        self,
        rng: int | np.random.Generator = 0,
        *,
        backend: str = "numpy",
        dtype: str = "float64",
        device: Any = None,
    ) -> Array:
        """Draw theta (P,) as the model's parameterization states; drawn on the host, then moved."""
        return self.model.init(rng, backend=backend, dtype=dtype, device=device)

    def unpack(self, theta: Array) -> tuple[Array, ...]:
        """The trainable layer matrices ``Wbar_l = [W_l | b_l]``, shapes (d_out, d_in[+1])."""
        return self.model.unpack(theta)

    def pack(self, layers: Sequence[Array | tuple[Array, Array]]) -> Array:
        """The flat theta (P,) of trainable layers, each a ``Wbar_l`` or a pair ``(W_l, b_l)``."""
        return self.model.pack(layers)

    # --- outputs, loss and their derivatives ---------------------------------------------------------

    def outputs(self, theta: Array, x: Array) -> Array:
        """The network outputs f (N, K), natural parameters of the likelihood."""
        return self._forward(theta, x)[2].outputs

    def loss(self, theta: Array, x: Array, y: Array) -> Array:
        """The mean loss L, 0-d; terms constant in theta are left out."""
        xp, _, trace = self._forward_labelled(theta, x, y)
        return self._finite("loss", xp.mean(self.likelihood.loss(trace.outputs, y)))

    def log_likelihood(self, theta: Array, x: Array, y: Array) -> Array:
        """``sum_n log p(y_n | x_n, theta)``, 0-d: a sum over examples, not a mean, and with every constant.

        That is ``-N L`` and the sum of the likelihood's `log_base`; for real labels a log density.
        """
        xp, _, trace = self._forward_labelled(theta, x, y)
        f = trace.outputs
        each = self.likelihood.log_base(f, y) - self.likelihood.loss(f, y)
        return self._finite("log_likelihood", xp.sum(each))

    def gradient(self, theta: Array, x: Array, y: Array) -> Array:
        """The gradient g (P,) of the mean loss, by one backward pass."""
        _, layers, trace = self._forward_labelled(theta, x, y)
        return self._gradient(layers, trace, y)

    def per_example_gradients(self, theta: Array, x: Array, y: Array) -> Array:
        """The gradients (N, P) of the per-example losses, without a loop; their mean is the gradient."""
        _, layers, trace = self._forward_labelled(theta, x, y)
        cotangents = self.likelihood.gradient(trace.outputs, y)[:, None, :]
        return self._finite("per_example_gradients", self._rows(layers, trace, cotangents)[:, 0, :])

    def jacobian(self, theta: Array, x: Array) -> Array:
        """The Jacobian df/dtheta (N, K, P)."""
        xp, layers, trace = self._forward(theta, x)
        n, k = trace.outputs.shape
        each = xp.broadcast_to(identity(k, trace.outputs)[None, :, :], (n, k, k))
        return self._finite("jacobian", self._rows(layers, trace, each))

    def jvp(self, theta: Array, x: Array, v: Array) -> Array:
        """``J v`` (N, K) for a direction v (P,), by one forward tangent pass."""
        _, layers, trace = self._forward(theta, x)
        self._check_vector("v", v, theta)
        return self._finite("jvp", derivatives.jvp(self.model, layers, trace, v).preactivations[-1])

    def vjp(self, theta: Array, x: Array, u: Array) -> Array:
        """``J^T u`` (P,) for a cotangent u (N, K), summed over examples."""
        _, layers, trace = self._forward(theta, x)
        namespace(theta=theta, u=u)
        check_shape("u", u, tuple(trace.outputs.shape), "(examples, outputs)")
        if self.check_finite:
            check_finite(u=u)
        return self._finite("vjp", derivatives.vjp(self.model, layers, trace, u))

    def hvp(self, theta: Array, x: Array, y: Array, v: Array) -> Array:
        """``H v`` (P,), H the Hessian of the mean loss: exact double backprop, forward over reverse.

        ``H g`` with v = g is the gradient of ``|g|^2 / 2``.
        """
        _, layers, trace = self._forward_labelled(theta, x, y)
        self._check_vector("v", v, theta)
        return self._finite("hvp", self._hessian_product(layers, trace, y, v))

    def hessian(self, theta: Array, x: Array, y: Array) -> Array:
        """The dense Hessian (P, P) of the mean loss, by Hessian-vector products in batches."""
        xp, layers, trace = self._forward_labelled(theta, x, y)
        p = self.num_parameters
        batch = max(1, _HESSIAN_WORKSPACE // (x.shape[0] * max(self.model.sizes)))
        directions = identity(p, theta)
        rows = [
            self._hessian_product(layers, trace, y, directions[start : min(start + batch, p), :])
            for start in range(0, p, batch)
        ]
        return self._finite("hessian", xp.concat(rows, axis=0))

    # --- score rows ----------------------------------------------------------------------------------

    def sample(
        self, theta: Array, x: Array, *, num_samples: int = 1, rng: int | np.random.Generator
    ) -> Array:
        """Labels drawn from the model: (num_samples, N) integers or (num_samples, N, K) floats.

        Drawn on the host by NumPy and moved to theta's device, so that every backend sees the same draws.
        """
        check_integer("num_samples", num_samples, minimum=1)
        _, _, trace = self._forward(theta, x)
        return self.likelihood.sample(trace.outputs, num_samples=num_samples, rng=rng)

    def activations(self, theta: Array, x: Array) -> tuple[Array, ...]:
        """The inputs ``abar_l = [c_l a_l; 1]`` (N, d_in[+1]) of the trainable layers."""
        _, _, trace = self._forward(theta, x)
        return self._finite_layers("activations", derivatives.trainable_inputs(self.model, trace))

    def score_signals(
        self,
        theta: Array,
        x: Array,
        y: Array | None = None,
        *,
        kind: str = "expected",
        samples: Array | None = None,
        num_samples: int = 1,
        rng: int | np.random.Generator | None = None,
    ) -> tuple[Array, ...]:
        """The score signals ``D_l`` (N, K', d_out) of the trainable layers.

        Expected: ``D_{l,n} = S_n^T df_n/ds_l`` with ``S S^T`` the output Fisher. Monte-Carlo:
        ``d l(f_n, y_nm)/ds_l / sqrt(M)`` for M labels drawn from the model. Empirical:
        ``d l(f_n, y_n)/ds_l``.
        The block of a score row is ``D_{l,n,k} (x) abar_{l,n} / sqrt(N)``.

        Parameters
        ----------
        y : array, optional
            The observed labels; needed by ``kind="empirical"`` only.
        kind : {"expected", "monte_carlo", "empirical"}
        samples : array, optional
            Labels for Monte-Carlo, (M, N) or (M, N, K); drawn with ``rng`` and ``num_samples`` unless given.
        """
        _, layers, trace = self._forward(theta, x, y)
        return self._signals(layers, trace, y, kind, samples, num_samples, rng)[0]

    def layer_factors(
        self, theta: Array, x: Array, y: Array | None = None, **options: Any
    ) -> tuple[Layers, Layers]:
        """`activations` and `score_signals`, whose options it takes, in one forward pass."""
        _, layers, trace = self._forward(theta, x, y)
        inputs = derivatives.trainable_inputs(self.model, trace)
        signals, _ = self._signals(layers, trace, y, **({"kind": "expected"} | options))
        return self._finite_layers("activations", inputs), signals

    def score_rows(
        self,
        theta: Array,
        x: Array,
        y: Array | None = None,
        *,
        kind: str = "expected",
        samples: Array | None = None,
        num_samples: int = 1,
        rng: int | np.random.Generator | None = None,
    ) -> Array:
        """The score rows B (N K', P) with Fisher ``F = B^T B``, mean-normalised; example-major.

        Rows ``S_n^T J_n / sqrt(N)`` (expected), or gradients on drawn or observed labels scaled alike; the
        options are those of `score_signals`.
        """
        xp, layers, trace = self._forward(theta, x, y)
        signals, _ = self._signals(layers, trace, y, kind, samples, num_samples, rng)
        inputs = derivatives.trainable_inputs(self.model, trace)
        rows = derivatives.outer_rows(inputs, signals) / math.sqrt(x.shape[0])
        return self._finite("score_rows", xp.reshape(rows, (-1, self.num_parameters)))

    def score_coefficients(self, theta: Array, x: Array, y: Array, *, kind: str = "expected") -> Array:
        """The coefficients c (N K') with ``g = B^T c``: the gradient lies in the row space of B.

        Expected: ``c_n = ct_n / sqrt(N)`` with ``S ct = grad_f l``; empirical: ``1/sqrt(N)``.

        Raises
        ------
        ValueError
            For a Monte-Carlo Fisher, whose row space need not hold the gradient.
        NumericalError
            Where a coefficient overflows (a probability below the square of the smallest number); use a
            direction without coefficients there.
        """
        check_choice("kind", kind, ("expected", "empirical"))
        _, _, trace = self._forward_labelled(theta, x, y)
        coefficients = self._coefficients(trace, y, kind)
        if coefficients is None:
            raise NumericalError("score_coefficients overflow: use a direction without coefficients")
        return coefficients

    def linearize(
        self,
        theta: Array,
        x: Array,
        y: Array,
        *,
        kind: str = "expected",
        samples: Array | None = None,
        num_samples: int = 1,
        rng: int | np.random.Generator | None = None,
    ) -> Linearization:
        """Loss, gradient, score factors and coefficients in one forward and two backward passes."""
        xp, layers, trace = self._forward_labelled(theta, x, y)
        signals, samples = self._signals(layers, trace, y, kind, samples, num_samples, rng)
        return Linearization(
            loss=self._finite("loss", xp.mean(self.likelihood.loss(trace.outputs, y))),
            gradient=self._gradient(layers, trace, y),
            activations=self._finite_layers("activations", derivatives.trainable_inputs(self.model, trace)),
            signals=signals,
            coefficients=None if kind == "monte_carlo" else self._coefficients(trace, y, kind),
            samples=samples,
        )

    # --- inner functions -----------------------------------------------------------------------------

    def _forward(self, theta: Array, x: Array, y: Array | None = None) -> tuple[ModuleType, Layers, Trace]:
        xp = namespace(theta=theta, x=x)
        check_shape("theta", theta, (self.num_parameters,), "one flat parameter vector")
        check_shape("x", x, (None, self.model.sizes[0]), "(examples, inputs)")
        if self.check_finite:
            check_finite(theta=theta, x=x)
        layers = self.model.all_layers(theta)
        trace = derivatives.forward(self.model, layers, x)
        self._finite("outputs", trace.outputs)
        if y is not None:
            self.likelihood.check_targets(trace.outputs, y)
        return xp, layers, trace

    def _forward_labelled(self, theta: Array, x: Array, y: Array) -> tuple[ModuleType, Layers, Trace]:
        if y is None:
            raise TypeError("y must be an array of labels, got None")
        return self._forward(theta, x, y)

    def _finite(self, name: str, result: Array) -> Array:
        if self.check_finite:
            xp = namespace(**{name: result})
            if not bool(xp.all(xp.isfinite(result))):
                message = f"{name} overflowed: NaN or infinite entries from finite arguments"
                raise NumericalError(message, result)
        return result

    def _finite_layers(self, name: str, layers: Layers) -> Layers:
        if self.check_finite:
            xp = namespace(**{f"{name}[{i}]": layer for i, layer in enumerate(layers)})
            if not bool(xp.all(xp.stack([xp.all(xp.isfinite(layer)) for layer in layers]))):
                raise NumericalError(
                    f"{name} overflowed: NaN or infinite entries from finite arguments", layers
                )
        return layers

    def _check_vector(self, name: str, vector: Array, theta: Array) -> None:
        namespace(theta=theta, **{name: vector})
        check_shape(name, vector, (self.num_parameters,), "one entry a parameter")
        if self.check_finite:
            check_finite(**{name: vector})

    def _gradient(self, layers: Layers, trace: Trace, y: Array) -> Array:
        cotangent = self.likelihood.gradient(trace.outputs, y) / trace.outputs.shape[0]
        return self._finite("gradient", derivatives.vjp(self.model, layers, trace, cotangent))

    def _rows(self, layers: Layers, trace: Trace, cotangents: Array) -> Array:
        signals = derivatives.backward(self.model, layers, trace, cotangents)
        return derivatives.outer_rows(derivatives.trainable_inputs(self.model, trace), signals)

    def _hessian_product(self, layers: Layers, trace: Trace, y: Array, directions: Array) -> Array:
        n = trace.outputs.shape[0]
        tangent = derivatives.jvp(self.model, layers, trace, directions)
        moved = tangent.preactivations[-1]  # J v, (..., N, K)
        curvature = self.likelihood.hessian(trace.outputs, y) / n
        return derivatives.vjp_tangent(
            self.model,
            layers,
            trace,
            tangent,
            directions,
            cotangent=self.likelihood.gradient(trace.outputs, y) / n,
            cotangent_tangent=(curvature @ moved[..., None])[..., 0],
        )

    def _signals(
        self,
        layers: Layers,
        trace: Trace,
        y: Array | None,
        kind: str,
        samples: Array | None = None,
        num_samples: int = 1,
        rng: int | np.random.Generator | None = None,
    ) -> tuple[Layers, Array | None]:
        check_choice("kind", kind, KINDS)
        check_integer("num_samples", num_samples, minimum=1)
        if kind != "monte_carlo" and samples is not None:
            raise ValueError(f"samples belong to kind='monte_carlo', got kind={kind!r}")
        f = trace.outputs
        if kind == "expected":
            cotangents = transpose(self.likelihood.factor(f))
        elif kind == "empirical":
            if y is None:
                raise ValueError("y must be given for kind='empirical', got None")
            cotangents = self.likelihood.gradient(f, y)[:, None, :]
        else:
            if samples is None:
                if rng is None:
                    raise ValueError("kind='monte_carlo' needs samples, or an rng to draw them; got neither")
                samples = self.likelihood.sample(f, num_samples=num_samples, rng=rng)
            cotangents = self._sampled_gradients(f, samples)
        signals = derivatives.backward(self.model, layers, trace, cotangents)
        return self._finite_layers("score_signals", signals), samples

    def _sampled_gradients(self, f: Array, samples: Array) -> Array:
        xp = namespace_of_mixed(f=f, samples=samples)
        count = samples.shape[0] if samples.ndim > 1 else 0
        if count == 0:
            raise ValueError(f"samples must have shape (draws, *labels), got {tuple(samples.shape)}")
        gradients = []
        for m in range(count):
            try:
                self.likelihood.check_targets(f, samples[m, ...])
            except (TypeError, ValueError) as error:  # which speaks of y
                raise type(error)(f"samples[{m}] must hold labels: {error}") from None
            gradients.append(self.likelihood.gradient(f, samples[m, ...]))
        return xp.stack(gradients, axis=1) / math.sqrt(count)

    def _coefficients(self, trace: Trace, y: Array, kind: str) -> Array | None:
        xp = namespace(f=trace.outputs)
        n = trace.outputs.shape[0]
        if kind == "empirical":
            return xp.full((n,), n**-0.5, **like(trace.outputs))
        stacked = xp.reshape(self.likelihood.coefficients(trace.outputs, y), (-1,)) / math.sqrt(n)
        return stacked if bool(xp.all(xp.isfinite(stacked))) else None
