"""JAX's autodiff, and steps by optax.

From this directory: ``grng-ref check jax_autodiff:Autodiff --cases adamw-four-steps,sgd-nesterov``
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import optax

jax.config.update("jax_enable_x64", True)

ACTIVATIONS = {
    "identity": lambda s: s,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "gelu": lambda s: jax.nn.gelu(s, approximate=False),
    "silu": jax.nn.silu,
}


def outputs(case, theta, x):
    """The network from the flat parameters, ``[W | b]`` of each layer row by row."""
    network = case.network
    if network["scales"] or network["frozen"]:
        raise NotImplementedError("a network with given scales or with frozen layers")
    start, s = 0, x
    for index, (W, b) in enumerate(case.layers):
        rows, columns = W.shape[0], W.shape[1] + (b is not None)
        layer = theta[start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
        a = s if index == 0 else ACTIVATIONS[network["activation"]](s)
        a = a / math.sqrt(W.shape[1]) if network["parameterization"] == "ntk" else a
        s = a @ layer[:, : W.shape[1]].T + (layer[:, -1] if b is not None else 0.0)
    return s


def mean_loss(case, f, y):
    """The mean negative log likelihood, without terms constant in f."""
    name = case.likelihood["name"]
    if name == "gaussian":
        return jnp.sum((f - y) ** 2) / (2 * len(f) * case.likelihood["variance"])
    if name == "categorical":
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(f, y))
    if name == "bernoulli":
        return jnp.sum(optax.sigmoid_binary_cross_entropy(f, y)) / len(f)
    return jnp.sum(jnp.exp(f) - y * f) / len(f)


class Autodiff:
    """Derivatives by JAX, steps by optax; the parameters are one flat array, as in the cases."""

    library, dtype = "jax", "float64"

    def outputs(self, case):
        """The network's outputs."""
        return outputs(case, case.theta, case.x)

    def _loss(self, case, batch=None):
        batch = batch or case
        return lambda theta: mean_loss(case, outputs(case, theta, batch.x), batch.y)

    def loss(self, case):
        """The mean loss."""
        return self._loss(case)(case.theta)

    def gradient(self, case):
        """By reverse mode."""
        return jax.jit(jax.grad(self._loss(case)))(case.theta)

    def jacobian(self, case):
        """By reverse mode."""
        return jax.jit(jax.jacrev(lambda theta: outputs(case, theta, case.x)))(case.theta)

    def hvp(self, case):
        """Forward over reverse."""
        return jax.jit(lambda t, v: jax.jvp(jax.grad(self._loss(case)), (t,), (v,))[1])(case.theta, case.v)

    def delta(self, case):
        """The first step."""
        return self._path(case, 1)[0] - case.theta

    def parameters(self, case):
        """After every step."""
        return jnp.stack(self._path(case, case.steps))

    def _path(self, case, steps):
        opt, theta, after = self.optimizer(case), case.theta, []
        state = opt.init(theta)
        for step in range(steps):
            g = jax.grad(self._loss(case, case.batch(step)))(theta)
            update, state = opt.update(g, state, theta)
            theta = optax.apply_updates(theta, update)
            after.append(theta)
        return after

    def optimizer(self, case):
        """Optax's optimizer with the settings of the case."""
        name = case.optimizer["name"]
        rates = jnp.asarray([case.settings(step)["lr"] for step in range(case.steps)])
        if name == "sgd":
            decay = optax.add_decayed_weights(case.weight_decay)
            rule = optax.sgd(lambda step: rates[step], case.momentum or None, case.nesterov)
            return optax.chain(decay, rule)
        if name == "adamw":
            b1, b2, eps, decay = case.beta1, case.beta2, case.eps, case.weight_decay
            return optax.adamw(lambda step: rates[step], b1, b2, eps, weight_decay=decay)
        raise NotImplementedError(f"the optimizer {name}")


class Pairs:
    """The gradient as per-layer pairs ``(W, b)``."""

    library, dtype = "jax", "float64"

    def gradient(self, case):
        """Derivatives by a list of pairs, which is a tree to JAX; tanh networks with biases."""
        if case.network["activation"] != "tanh" or not case.network["bias"]:
            raise NotImplementedError("another network")

        def loss(layers):
            a = s = case.x
            for W, b in layers:
                s = a @ W.T + b
                a = jnp.tanh(s)
            return mean_loss(case, s, case.y)

        return jax.grad(loss)(case.layers)
