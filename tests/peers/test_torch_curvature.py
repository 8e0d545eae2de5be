"""Fisher, K-FAC and natural directions against curvlinops, BackPACK and PyTorch's own autodiff.

The peers order the parameters layer by layer, weights before bias; ours are the rows of ``[W | b]``. Their
losses are means over examples *and* outputs, except for the categorical one: so the Fisher of ``MSELoss`` is
2/K times ours, that of ``BCEWithLogitsLoss`` 1/K times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from support import Backend, assert_values_close, import_peer, tolerance

import grng_ref as gr

pytestmark = [
    pytest.mark.peers,
    # what PyTorch's own modules say to each other, as they load
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

torch = import_peer("torch")

PROMISED = 1e-10  # relative error that the project promises against autodiff, in float64

# name -> (likelihood, the peers' loss, the peers' curvature over ours with K outputs)
LOSSES: dict[str, tuple[gr.Likelihood, Any, Callable[[int], float]]] = {
    "categorical": (gr.Categorical(), torch.nn.CrossEntropyLoss, lambda k: 1.0),
    "gaussian": (gr.Gaussian(), torch.nn.MSELoss, lambda k: 2.0 / k),
    "bernoulli": (gr.Bernoulli(), torch.nn.BCEWithLogitsLoss, lambda k: 1.0 / k),
}
SIZES = (64, 32, 10)
EXAMPLES = 24


class Pair:
    """The same tanh network twice: a problem with theta, and a PyTorch module; and data for both."""

    def __init__(self, likelihood: str, sizes: tuple[int, ...] = SIZES, examples: int = EXAMPLES) -> None:
        rng = np.random.default_rng(sum(sizes))
        family, loss, ratio = LOSSES[likelihood]
        self.loss = loss()  # one of its own: BackPACK hooks into the object
        self.ratio = ratio(sizes[-1])
        self.problem = gr.Problem(gr.MLP(sizes, activation="tanh"), family)
        self.theta = self.problem.init(rng) + 0.1 * rng.standard_normal(self.problem.num_parameters)
        self.x = rng.standard_normal((examples, sizes[0]))
        self.y = {
            "categorical": rng.integers(0, sizes[-1], examples),
            "gaussian": rng.standard_normal((examples, sizes[-1])),
            "bernoulli": rng.integers(0, 2, (examples, sizes[-1])).astype(float),
        }[likelihood]

        modules: list[Any] = []
        places, start = [], 0
        for layer, (d_in, d_out) in zip(self.problem.unpack(self.theta), pairwise(sizes), strict=True):
            place = np.arange(start, start + layer.size).reshape(layer.shape)
            start += layer.size
            places += [place[:, :-1].ravel(), place[:, -1]]
            linear = torch.nn.Linear(d_in, d_out, dtype=torch.float64)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(layer[:, :-1]))
                linear.bias.copy_(torch.from_numpy(layer[:, -1]))
            modules += [linear, torch.nn.Tanh()]
        self.module = torch.nn.Sequential(*modules[:-1])
        self.parameters = list(self.module.parameters())
        self.batch = torch.from_numpy(self.x), torch.from_numpy(self.y)
        self.places = np.concatenate(places)  # of the module's parameters, in theta

    def in_our_order(self, matrix: Any) -> np.ndarray:
        """A peer's matrix with rows and columns in the order of theta, in our normalisation."""
        ordered = np.empty(matrix.shape)
        ordered[np.ix_(self.places, self.places)] = matrix.detach().numpy()
        return ordered / self.ratio

    def in_peer_order(self, vector: np.ndarray) -> np.ndarray:
        """A vector over theta, in the order of the module's parameters and their normalisation."""
        return vector[..., self.places] * self.ratio


def dense(operator: Any) -> Any:
    return operator @ torch.eye(operator.shape[1], dtype=torch.float64)


# Sums over examples and units; the peer rounds too.
LIMIT = tolerance("float64", terms=EXAMPLES * max(SIZES))
assert LIMIT <= PROMISED


@pytest.mark.parametrize("likelihood", LOSSES)
def test_fisher_is_curvlinops_ggn(likelihood: str) -> None:
    curvlinops = import_peer("curvlinops")
    pair = Pair(likelihood)
    ggn = dense(curvlinops.GGNLinearOperator(pair.module, pair.loss, pair.parameters, [pair.batch]))
    F = gr.fisher(pair.problem, pair.theta, pair.x).to_dense()
    assert_values_close(F, pair.in_our_order(ggn), dtype="float64", rtol=LIMIT)
    with pytest.raises(AssertionError):  # another order of the parameters
        assert_values_close(F, ggn.numpy() / pair.ratio, dtype="float64", rtol=LIMIT)


@pytest.mark.parametrize("likelihood", LOSSES)
def test_kfac_is_that_of_curvlinops(likelihood: str) -> None:
    """``G kron A`` of every layer: a factor alone is defined up to a scale that moves to the other."""
    curvlinops = import_peer("curvlinops")
    pair = Pair(likelihood)

    def theirs(*, separate: bool) -> np.ndarray:
        operator = curvlinops.KFACLinearOperator(
            pair.module,
            pair.loss,
            pair.parameters,
            [pair.batch],
            fisher_type=curvlinops.FisherType.TYPE2,
            separate_weight_and_bias=separate,
        )
        return pair.in_our_order(dense(operator))

    ours = gr.fisher(pair.problem, pair.theta, pair.x, structure="kfac").to_dense()
    assert_values_close(ours, theirs(separate=False), dtype="float64", rtol=LIMIT)
    with pytest.raises(AssertionError):  # weights and biases apart: another approximation
        assert_values_close(ours, theirs(separate=True), dtype="float64", rtol=LIMIT)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")  # that is what BackPACK wants
@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
def test_factors_diagonal_and_per_example_gradients_are_those_of_backpack(likelihood: str) -> None:
    backpack = import_peer("backpack")
    extensions = import_peer("backpack.extensions")
    pair = Pair(likelihood)
    module, loss = backpack.extend(pair.module), backpack.extend(pair.loss)
    with backpack.backpack(extensions.KFLR(), extensions.DiagGGNExact(), extensions.BatchGrad()):
        loss(module(pair.batch[0]), pair.batch[1]).backward()

    C = gr.fisher(pair.problem, pair.theta, pair.x, structure="kfac")
    for linear, (A, G) in zip(list(module)[::2], C.factors, strict=True):
        their_g, their_a = (factor.numpy() for factor in linear.weight.kflr)
        # BackPACK keeps the bias apart: compare without its column.
        ours = np.kron(G, A[:-1, :-1])
        expected = np.kron(their_g, their_a) / pair.ratio
        assert_values_close(ours, expected, dtype="float64", rtol=LIMIT)

    diagonal = gr.fisher(pair.problem, pair.theta, pair.x).diagonal()
    expected = torch.cat([p.diag_ggn_exact.reshape(-1) for p in pair.parameters])
    assert_values_close(pair.in_peer_order(diagonal), expected.numpy(), dtype="float64", rtol=LIMIT)

    gradients = pair.problem.per_example_gradients(pair.theta, pair.x, pair.y) / EXAMPLES
    expected = torch.cat([p.grad_batch.reshape(EXAMPLES, -1) for p in pair.parameters], dim=1)
    assert_values_close(pair.in_peer_order(gradients), expected.numpy(), dtype="float64", rtol=LIMIT)
    with pytest.raises(AssertionError):  # BackPACK's are divided by the number of examples
        assert_values_close(
            pair.in_peer_order(gradients) * EXAMPLES, expected.numpy(), dtype="float64", rtol=LIMIT
        )


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_directions_are_those_of_torch_func(library: str) -> None:
    """A gelu network in NTK parameterization with Poisson outputs, by ``torch.func`` and dense solves."""
    d, m, k, n = 4, 6, 3, 8
    damping, rho = 0.5, 0.2
    rng = np.random.default_rng(8)
    theta = 0.7 * rng.standard_normal(m * (d + 1) + k * (m + 1))
    x, y = rng.standard_normal((n, d)), rng.poisson(2.0, (n, k)).astype(float)

    def outputs(t: Any, x: Any) -> Any:
        first, last = t[: m * (d + 1)].reshape(m, d + 1), t[m * (d + 1) :].reshape(k, m + 1)
        s = first[:, :d] @ x / math.sqrt(d) + first[:, d]
        a = s * (1 + torch.erf(s / math.sqrt(2))) / 2
        return last[:, :m] @ a / math.sqrt(m) + last[:, m]

    def loss(f: Any, y: Any) -> Any:
        return torch.sum(torch.exp(f) - y * f)

    def mean_loss(t: Any) -> Any:
        f = torch.func.vmap(outputs, (None, 0))(t, inputs)
        return torch.func.vmap(loss)(f, labels).mean()

    there, inputs, labels = (torch.from_numpy(a) for a in (theta, x, y))
    g, H = torch.func.grad(mean_loss)(there), torch.func.hessian(mean_loss)(there)
    J = torch.func.vmap(torch.func.jacrev(outputs), (None, 0))(there, inputs)
    f = torch.func.vmap(outputs, (None, 0))(there, inputs)
    Om = torch.func.vmap(torch.func.hessian(loss))(f, labels)
    F = torch.einsum("nkp,nkj,njq->pq", J, Om, J) / n
    unit = torch.eye(theta.size, dtype=torch.float64)
    expected = {
        "gradient": g,
        "hessian": H,
        "fisher": F,
        "ngd": torch.linalg.solve(F + damping * unit, g),
        "ring": torch.linalg.solve(F + (damping + rho * g @ g) * unit, g),
        "reng": torch.linalg.solve(F + damping * unit, g + rho * H @ g),
    }

    backend = Backend(library, library, "float64")
    problem = gr.Problem(gr.MLP((d, m, k), activation="gelu", parameterization="ntk"), gr.Poisson())
    theta, x, y = backend.asarray((theta, x, y))
    B, own = problem.score_rows(theta, x), problem.gradient(theta, x, y)
    found = {
        "gradient": own,
        "hessian": problem.hessian(theta, x, y),
        "fisher": gr.fisher(problem, theta, x).to_dense(),
        "ngd": gr.natural_direction(B, own, damping=damping),
        "ring": gr.ring_direction(B, own, rho=rho, damping=damping),
        "reng": gr.reng_direction(B, own, lambda v: problem.hvp(theta, x, y, v), rho=rho, damping=damping),
    }
    condition = 1.0 + float(torch.linalg.matrix_norm(F, 2)) / damping
    limit = tolerance("float64", condition, terms=B.shape[1])
    assert limit <= PROMISED
    for name, value in expected.items():
        backend.assert_close(found[name], value.numpy(), rtol=limit)
        with pytest.raises(AssertionError):  # ten digits are seen
            backend.assert_close(found[name], (1 + PROMISED) * value.numpy(), rtol=limit)
