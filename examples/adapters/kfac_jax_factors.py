"""kfac-jax: K-FAC's factors, its product and its damped inverses, by the estimator of the optimizer.

From this directory: ``grng-ref check kfac_jax_factors:Estimator --cases kfac-baseline,kfac-expected-exact``
"""

from __future__ import annotations

import jax
import kfac_jax
from jax_autodiff import ACTIVATIONS, mean_loss

jax.config.update("jax_enable_x64", True)


def register(case, f, y):
    """Tell kfac-jax what the outputs mean."""
    name = case.likelihood["name"]
    if name == "categorical":
        kfac_jax.register_softmax_cross_entropy_loss(f, y)
    elif name == "bernoulli":
        kfac_jax.register_sigmoid_cross_entropy_loss(f, y)
    elif name == "gaussian":
        kfac_jax.register_normal_predictive_distribution(f, y, variance=case.likelihood["variance"])
    else:
        raise NotImplementedError(f"the likelihood {name}")


class Estimator:
    """`kfac_jax.BlockDiagonalCurvature` after one update, its exact Fisher."""

    library, dtype = "jax", "float64"
    kind, mode = "expected", "fisher_exact"
    expected_failures = {
        "one-output-kfac/damped_solve": "kfac-jax 0.0.8 puts no damping on a factor of size one, so "
        "that of the product is left"
    }

    def __init__(self):
        self._kept = {}

    def _estimate(self, case):
        if case.id not in self._kept:
            self._kept[case.id] = self._made(case)
        return self._kept[case.id]

    def _made(self, case):
        network = case.network
        if network["parameterization"] != "standard" or network["scales"] or network["frozen"]:
            raise NotImplementedError("a network with scales or with frozen layers")
        if case.curvature != {"structure": "kfac", "kind": self.kind}:
            raise NotImplementedError("another structure, or labels drawn by somebody else")

        def loss(layers, batch):
            a = s = batch[0]
            for W, *b in layers:
                s = a @ W + b[0] if b else a @ W
                a = ACTIVATIONS[network["activation"]](s)
            register(case, s, batch[1])
            return mean_loss(case, s, batch[1])

        # Its layers have W transposed.
        layers = [(W.T,) if b is None else (W.T, b) for W, b in case.layers]
        estimator = kfac_jax.BlockDiagonalCurvature(loss, default_estimation_mode=self.mode)
        key, arguments = jax.random.PRNGKey(0), (layers, (case.x, case.y))
        state = estimator.init(key, arguments, exact_powers_to_cache=None, approx_powers_to_cache=None)
        update = jax.jit(
            lambda s, a: estimator.update_curvature_matrix_estimate(s, 0.0, 1.0, 0.0, len(case.x), key, a)
        )
        return estimator, update(state, arguments)

    def factors(self, case):
        """(A, G) of every layer."""
        _, state = self._estimate(case)
        return [tuple(f.value for f in block.factors) for block in state.blocks_states]

    def curvature_product(self, case):
        """K-FAC's matrix times v."""
        return self._power(case, 0.0, 1, exact=True)

    def damped_solve(self, case):
        """Exact or factored damping, as the case says."""
        return self._power(case, case.damping, -1, exact=case.damping_kind == "exact")

    def _power(self, case, damping, power, *, exact):
        estimator, state = self._estimate(case)
        parts, start = [], 0
        for W, b in case.layers:
            rows, columns = W.shape[0], W.shape[1] + (b is not None)
            layer = case.v[start : start + rows * columns].reshape(rows, columns)
            start += rows * columns
            parts.append((layer.T,) if b is None else (layer[:, :-1].T, layer[:, -1]))
        result = estimator.multiply_matpower(
            state,
            parts,
            damping,
            power=power,
            exact_power=exact,
            use_cached=False,
            pmap_axis_name=None,
        )
        return [(W.T, b[0] if b else None) for W, *b in result]


class Empirical(Estimator):
    """Its empirical Fisher, which its documentation says is divided by the batch size once more."""

    conventions = {"fisher": "1/N"}
    kind, mode = "empirical", "fisher_empirical"
    expected_failures = {}
