"""What `speed.py` times: the same three tasks by each library, from parameters, inputs and labels.

``fisher``: the dense matrix; ``direction``: ``(F + a I)^{-1} g``, with the gradient; ``kfac``: the expected
factors of every layer, compared as ``(A / t, t G)`` with t the trace of A's part for the weights, since a
scale may move between them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from workers import THREADS, Contender, prepare_jax

SIZES = (64, 32, 10)
EXAMPLES = 256
DAMPING = 1e-2

Data = tuple[np.ndarray, np.ndarray, np.ndarray]  # theta, x, y


def same(value: Any) -> np.ndarray:
    return np.asarray(value)


def balanced(factors: Any) -> np.ndarray:
    """The factors of all layers, flat; NaN for the bias row and column of an A without them."""
    flat = []
    for (A, G), d_in in zip(factors, SIZES, strict=False):
        A, G = np.asarray(A), np.asarray(G)
        whole, t = np.full((d_in + 1, d_in + 1), np.nan), np.trace(A[:d_in, :d_in])
        whole[: len(A), : len(A)] = A / t
        flat += [whole.ravel(), (t * G).ravel()]
    return np.concatenate(flat)


def grng_ref_contenders(data: Data) -> list[Contender]:
    import grng_ref as gr

    theta, x, y = data
    problem = gr.Problem(gr.MLP(SIZES, activation="tanh"), gr.Categorical())

    def direction() -> np.ndarray:
        at = problem.linearize(theta, x, y)
        F = gr.curvature(at.activations, at.signals)
        return F.solve(at.gradient, damping=DAMPING, coefficients=at.coefficients)

    return [
        Contender("fisher", "layer pairs", lambda: gr.fisher(problem, theta, x).to_dense(), same),
        Contender("direction", "linearize, Gram form", direction, same),
        Contender("kfac", "kfac", lambda: gr.fisher(problem, theta, x, structure="kfac").factors, balanced),
    ]


def jax_contenders(data: Data) -> list[Contender]:
    """Both ways to the Fisher that autodiff offers, compiled; and kfac-jax's exact estimator, compiled."""
    prepare_jax()
    import jax
    import jax.numpy as jnp
    import kfac_jax

    theta, x, y = (jnp.asarray(array) for array in data)

    def unpack(theta: Any) -> list[Any]:
        layers, start = [], 0
        for d_in, d_out in pairwise(SIZES):
            layers.append(theta[start : start + d_out * (d_in + 1)].reshape(d_out, d_in + 1))
            start += layers[-1].size
        return layers

    def outputs(theta: Any, xn: Any) -> Any:
        a = s = xn
        for layer in unpack(theta):
            s = layer[:, :-1] @ a + layer[:, -1]
            a = jnp.tanh(s)
        return s

    def from_jacobians(theta: Any, x: Any) -> Any:
        J = jax.vmap(jax.jacrev(outputs), (None, 0))(theta, x)
        p = jax.nn.softmax(jax.vmap(outputs, (None, 0))(theta, x))[:, :, None]
        curved = p * (J - jnp.sum(p * J, axis=1, keepdims=True))
        return J.reshape(-1, theta.size).T @ curved.reshape(-1, theta.size) / x.shape[0]

    def from_score_rows(theta: Any, x: Any) -> Any:
        def rows(xn: Any) -> Any:
            f, pull = jax.vjp(lambda t: outputs(t, xn), theta)
            p = jax.nn.softmax(f)
            factor = jnp.diag(jnp.sqrt(p)) - jnp.outer(p, jnp.sqrt(p))
            return jax.vmap(lambda column: pull(column)[0])(factor.T)

        B = jax.vmap(rows)(x).reshape(-1, theta.size)
        return B.T @ B / x.shape[0]

    def loss(theta: Any, x: Any, y: Any) -> Any:
        f = jax.nn.log_softmax(jax.vmap(outputs, (None, 0))(theta, x))
        return -jnp.mean(jnp.take_along_axis(f, y[:, None], axis=1))

    def contenders(name: str, fisher: Any) -> list[Contender]:
        def direction(theta: Any, x: Any, y: Any) -> Any:
            damped = fisher(theta, x) + DAMPING * jnp.eye(theta.size)
            return jax.scipy.linalg.solve(damped, jax.grad(loss)(theta, x, y), assume_a="pos")

        F, d = jax.jit(fisher), jax.jit(direction)
        return [
            Contender("fisher", name, lambda: F(theta, x).block_until_ready(), same),
            Contender("direction", name, lambda: d(theta, x, y).block_until_ready(), same),
        ]

    def registered(layers: Any, batch: Any) -> Any:
        a = s = batch[0]
        for weights, bias in layers:
            s = a @ weights + bias
            a = jnp.tanh(s)
        kfac_jax.register_softmax_cross_entropy_loss(s, batch[1])
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(s), batch[1][:, None], axis=1))

    layers = [(layer[:, :-1].T, layer[:, -1]) for layer in unpack(theta)]
    estimator = kfac_jax.BlockDiagonalCurvature(registered, default_estimation_mode="fisher_exact")
    key, arguments = jax.random.PRNGKey(0), (layers, (x, y))
    start = estimator.init(key, arguments, exact_powers_to_cache=None, approx_powers_to_cache=None)

    @jax.jit
    def factors(state: Any, layers: Any, batch: Any) -> Any:
        state = estimator.update_curvature_matrix_estimate(
            state, 0.0, 1.0, 0.0, EXAMPLES, key, (layers, batch)
        )
        return [tuple(f.value for f in block.factors) for block in state.blocks_states]

    kfac = Contender(
        "kfac", "kfac-jax exact", lambda: jax.block_until_ready(factors(start, *arguments)), balanced
    )
    return [
        *contenders("JAX jacrev, J^T Om J", from_jacobians),
        *contenders("JAX vjp, B^T B", from_score_rows),
        kfac,
    ]


def torch_contenders(data: Data) -> list[Contender]:
    """curvlinops, BackPACK and nngeometry; a module of its own for each, since they hook into it."""
    import backpack
    import curvlinops
    import nngeometry.metrics
    import nngeometry.object
    import torch
    from backpack import extensions

    torch.set_num_threads(THREADS)
    torch.set_default_dtype(torch.float64)  # nngeometry makes constants of the default dtype
    theta, x, y = data
    places: list[np.ndarray] = []  # where each layer's weights, then its bias, stand in theta
    start = 0
    for d_in, d_out in pairwise(SIZES):
        place = np.arange(start, start + d_out * (d_in + 1)).reshape(d_out, d_in + 1)
        start += place.size
        places += [place[:, :-1], place[:, -1]]
    order = np.concatenate([place.ravel() for place in places])
    batch = torch.from_numpy(x), torch.from_numpy(y)

    def module() -> Any:
        layers: list[Any] = []
        for index, (d_in, d_out) in enumerate(pairwise(SIZES)):
            linear = torch.nn.Linear(d_in, d_out)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(theta[places[2 * index]]))
                linear.bias.copy_(torch.from_numpy(theta[places[2 * index + 1]]))
            layers += [linear, torch.nn.Tanh()]
        return torch.nn.Sequential(*layers[:-1])

    def matrix(value: Any) -> np.ndarray:
        ordered = np.empty(value.shape)
        ordered[np.ix_(order, order)] = value.detach().numpy()
        return ordered

    def vector(value: Any) -> np.ndarray:
        ordered = np.empty(value.shape)
        ordered[order] = value.detach().numpy()
        return ordered

    plain, loss, unit = module(), torch.nn.CrossEntropyLoss(), torch.eye(theta.size)
    params = list(plain.parameters())

    def curvlinops_fisher() -> Any:
        operator = curvlinops.GGNLinearOperator(plain, loss, params, [batch], check_deterministic=False)
        return operator @ unit

    def curvlinops_kfac() -> Any:
        operator = curvlinops.KFACLinearOperator(
            plain,
            loss,
            params,
            [batch],
            check_deterministic=False,
            fisher_type=curvlinops.FisherType.TYPE2,
            separate_weight_and_bias=False,
        )
        operator.compute_kronecker_factors()
        found = operator._input_covariances, operator._gradient_covariances
        return [(found[0][name], found[1][name]) for name in found[0]]

    extended, extended_loss = backpack.extend(module()), backpack.extend(torch.nn.CrossEntropyLoss())

    def backpack_pass(extension: Any) -> None:
        extended.zero_grad()
        with backpack.backpack(extension):
            extended_loss(extended(batch[0]), batch[1]).backward()

    def backpack_fisher() -> Any:
        backpack_pass(extensions.SqrtGGNExact())
        parts = [p.sqrt_ggn_exact.reshape(SIZES[-1] * EXAMPLES, -1) for p in extended.parameters()]
        B = torch.cat(parts, dim=1)
        return B.T @ B

    def backpack_kfac() -> Any:
        backpack_pass(extensions.KFLR())
        return [tuple(reversed(linear.weight.kflr)) for linear in list(extended)[::2]]

    own = module()

    def nngeometry_curvature(representation: Any) -> Any:
        inputs = (batch[0].clone(), batch[1])  # it asks for the inputs' gradients
        return nngeometry.metrics.FIM(own, inputs, representation, variant="classif_logits")

    def nngeometry_fisher() -> Any:
        return nngeometry_curvature(nngeometry.object.PMatDense).data

    def nngeometry_kfac() -> Any:
        return list(nngeometry_curvature(nngeometry.object.PMatKFAC).data.values())

    def solved(fisher: Any) -> Any:
        def direction() -> Any:
            damped = fisher().detach() + DAMPING * unit
            grads = torch.autograd.grad(loss(plain(batch[0]), batch[1]), params)
            g = torch.cat([part.reshape(-1) for part in grads])
            return torch.cholesky_solve(g[:, None], torch.linalg.cholesky(damped))[:, 0]

        return direction

    def detached(value: Any) -> np.ndarray:
        return balanced([(A.detach(), G.detach()) for A, G in value])

    fishers = {
        "curvlinops GGN": curvlinops_fisher,
        "BackPACK SqrtGGN": backpack_fisher,
        "nngeometry": nngeometry_fisher,
    }
    factors = {
        "curvlinops TYPE2": curvlinops_kfac,
        "BackPACK KFLR": backpack_kfac,
        "nngeometry": nngeometry_kfac,
    }
    return [
        *(Contender("fisher", name, call, matrix) for name, call in fishers.items()),
        *(Contender("direction", name, solved(call), vector) for name, call in fishers.items()),
        *(Contender("kfac", name, call, detached) for name, call in factors.items()),
    ]


LIBRARIES = {"grng-ref": grng_ref_contenders, "jax": jax_contenders, "torch": torch_contenders}
