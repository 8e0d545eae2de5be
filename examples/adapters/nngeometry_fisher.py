"""nngeometry: the Fisher in its representations, products and damped solves.

It makes constants of PyTorch's default dtype, so that must be float64. From this directory:
``grng-ref check nngeometry_fisher:Fisher``
"""

from __future__ import annotations

import contextlib

import torch
from nngeometry import metrics
from nngeometry import object as representations
from nngeometry.layercollection import LayerCollection
from torch_network import in_order, module

VARIANTS = {"categorical": "classif_logits", "gaussian": "regression", "bernoulli": "classif_binary_logits"}
STRUCTURES = {
    "full": representations.PMatDense,
    "block_diagonal": representations.PMatBlockDiag,
    "diagonal": representations.PMatDiag,
    "kfac": representations.PMatKFAC,
    "ekfac": representations.PMatEKFAC,
}


@contextlib.contextmanager
def default_dtype(dtype):
    """PyTorch's default dtype, for a while."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Fisher:
    """The expected Fisher."""

    library, dtype = "torch", "float64"
    conventions = {"layout": "separate"}
    expected_failures = dict.fromkeys(
        (
            "saturated-categorical/fisher",
            "saturated-categorical/curvature_product",
            "saturated-categorical/damped_solve",
            "saturated-rkalman/fisher",
        ),
        "nngeometry 0.4 divides by 1 - p_1 - ..., 0 where a probability rounds to 1",
    )

    def _matrix(self, case, structure):
        likelihood = case.likelihood
        if likelihood["name"] not in VARIANTS or likelihood.get("variance", 1.0) != 1.0:
            raise NotImplementedError("another likelihood")
        if case.curvature["kind"] != "expected":
            raise NotImplementedError("labels of somebody else")
        if structure not in STRUCTURES:
            raise NotImplementedError("another structure")
        net = module(case)
        inputs = case.x.clone(), case.y  # it asks for the inputs' gradients
        matrix = metrics.FIM(net, inputs, STRUCTURES[structure], variant=VARIANTS[likelihood["name"]])
        if structure == "ekfac":
            matrix.update_diag((case.x.clone(), case.y))  # the eigenvectors alone were made so far
        return matrix, LayerCollection.from_model(net)

    def fisher(self, case):
        """The dense Fisher."""
        with default_dtype(case.x.dtype):
            return self._matrix(case, "full")[0].to_torch()

    def factors(self, case):
        """(A, G) of every layer."""
        if case.curvature["structure"] != "kfac":
            raise NotImplementedError("another structure")
        with default_dtype(case.x.dtype):
            return list(self._matrix(case, "kfac")[0].data.values())

    def curvature_product(self, case):
        """The structure's matrix times v."""
        with default_dtype(case.x.dtype):
            matrix, layers = self._matrix(case, case.curvature["structure"])
            v = representations.PVector(layers, vector_repr=in_order(case, case.v))
            return matrix.mv(v).to_torch()

    def damped_solve(self, case):
        """Its own damping: factored, with pi, for K-FAC; exact for the others."""
        kind = "factored" if case.curvature["structure"] == "kfac" else "exact"
        if case.damping_kind != kind:
            raise NotImplementedError("the other kind of damping")
        with default_dtype(case.x.dtype):
            matrix, layers = self._matrix(case, case.curvature["structure"])
            v = representations.PVector(layers, vector_repr=in_order(case, case.v))
            return matrix.solve(v, regul=case.damping).to_torch()
