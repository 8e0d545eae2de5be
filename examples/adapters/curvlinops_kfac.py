"""curvlinops: GGN, empirical Fisher, Hessian, and K-FAC with its damped inverses.

Its losses are PyTorch's, which are means over examples *and* outputs except for the cross-entropy: one class
for each loss, with what follows from that declared. From this directory:
``grng-ref check curvlinops_kfac:Categorical``
"""

from __future__ import annotations

import curvlinops
import torch
from torch_network import in_order, module

KINDS = {"expected": curvlinops.FisherType.TYPE2, "empirical": curvlinops.FisherType.EMPIRICAL}


class Categorical:
    """With `torch.nn.CrossEntropyLoss`."""

    library, dtype = "torch", "float64"
    conventions = {"layout": "separate"}
    likelihood, loss_function = "categorical", torch.nn.CrossEntropyLoss
    joint = True  # a layer's weights and bias have one pair of factors, as here
    expected_failures = {
        f"{case}/fisher": "curvlinops 3.0.1 cancels the share of a class whose probability rounds to 1"
        for case in ("saturated-categorical", "saturated-rkalman")
    }

    def _operator(self, case, cls, **options):
        if case.likelihood["name"] != self.likelihood or case.likelihood.get("variance", 1.0) != 1.0:
            raise NotImplementedError("another likelihood")
        net = module(case)
        data = [(case.x, case.y)]
        return cls(
            net, self.loss_function(), list(net.parameters()), data, check_deterministic=False, **options
        )

    def fisher(self, case):
        """The GGN, or the empirical Fisher, as a dense matrix."""
        kinds = {"expected": curvlinops.GGNLinearOperator, "empirical": curvlinops.EFLinearOperator}
        if case.curvature["kind"] not in kinds:
            raise NotImplementedError("labels drawn by somebody else")
        operator = self._operator(case, kinds[case.curvature["kind"]])
        return operator @ torch.eye(operator.shape[1], dtype=case.x.dtype)

    def hvp(self, case):
        """The Hessian times v."""
        return self._operator(case, curvlinops.HessianLinearOperator) @ in_order(case, case.v)

    def _kfac(self, case):
        if case.curvature["kind"] not in KINDS:
            raise NotImplementedError("labels drawn by somebody else")
        if case.curvature["structure"] != "kfac":
            raise NotImplementedError("another structure")
        return self._operator(
            case,
            curvlinops.KFACLinearOperator,
            fisher_type=KINDS[case.curvature["kind"]],
            separate_weight_and_bias=not self.joint,
        )

    def factors(self, case):
        """(A, G) of every layer."""
        operator = self._kfac(case)
        operator.compute_kronecker_factors()
        A, G = operator._input_covariances, operator._gradient_covariances
        return [(A[name], G[name]) for name in A]

    def curvature_product(self, case):
        """K-FAC's matrix times v."""
        return self._kfac(case) @ in_order(case, case.v)

    def damped_solve(self, case):
        """Exact or factored damping, as the case says."""
        kind = "use_exact_damping" if case.damping_kind == "exact" else "use_heuristic_damping"
        inverse = curvlinops.KFACInverseLinearOperator(self._kfac(case), damping=case.damping, **{kind: True})
        return inverse @ in_order(case, case.v)


class Gaussian(Categorical):
    """With `torch.nn.MSELoss`: no 1/2, and a mean over outputs, so the curvature is 2/K times ours."""

    conventions = {
        "layout": "separate",
        "fisher": "2/K",
        "loss": "mean over outputs",
        "squared error": "whole",
    }
    likelihood, loss_function = "gaussian", torch.nn.MSELoss
    expected_failures = {}

    def _operator(self, case, cls, **options):
        # of the empirical kind curvlinops's matrices are 4/K times ours, of the others 2/K: one declaration
        # cannot say both
        if case.curvature["kind"] == "empirical" and cls is not curvlinops.HessianLinearOperator:
            raise NotImplementedError("the empirical Fisher of MSELoss has a scale of its own")
        return super()._operator(case, cls, **options)


class Bernoulli(Categorical):
    """With `torch.nn.BCEWithLogitsLoss`: a mean over outputs too."""

    conventions = {"layout": "separate", "fisher": "mean over outputs", "loss": "mean over outputs"}
    likelihood, loss_function = "bernoulli", torch.nn.BCEWithLogitsLoss


class SeparateBias(Categorical):
    """Its default, with factors of their own for the weights and the bias: another approximation."""

    joint = False
