"""BackPACK: score rows, diagonal and K-FAC's factors (KFLR), from extensions of the backward pass.

It keeps the biases apart, so its factors are ours for layers without bias; and its losses are PyTorch's.
From this directory: ``grng-ref check backpack_extensions:Categorical``
"""

from __future__ import annotations

import backpack
import torch
from backpack import extensions
from torch_network import flat, in_order, linears, module


class Categorical:
    """With `torch.nn.CrossEntropyLoss`."""

    library, dtype = "torch", "float64"
    conventions = {"layout": "separate"}
    likelihood, loss_function = "categorical", torch.nn.CrossEntropyLoss

    def _backward(self, case, extension):
        if case.likelihood["name"] != self.likelihood or case.likelihood.get("variance", 1.0) != 1.0:
            raise NotImplementedError("another likelihood")
        net = backpack.extend(module(case))
        loss = backpack.extend(self.loss_function())
        with backpack.backpack(extension):
            loss(net(case.x), case.y).backward()
        return net

    def score_rows(self, case):
        """Rows of B from the square root of the GGN, or from the gradients of single examples."""
        n = len(case.x)
        if case.curvature["kind"] == "expected":
            net = self._backward(case, extensions.SqrtGGNExact())
            parts = [p.sqrt_ggn_exact.reshape(-1, n, p.numel()) for p in net.parameters()]
        elif case.curvature["kind"] == "empirical":
            net = self._backward(case, extensions.BatchGrad())
            # each is divided by N, a row of B by its root
            parts = [p.grad_batch.reshape(1, n, p.numel()) * n**0.5 for p in net.parameters()]
        else:
            raise NotImplementedError("labels drawn by somebody else")
        rows = torch.cat(parts, dim=2)  # output, example, parameter
        return rows.transpose(0, 1).reshape(-1, rows.shape[2])

    def fisher(self, case):
        """B^T B."""
        B = self.score_rows(case)
        return B.T @ B

    def curvature_product(self, case):
        """The diagonal times v."""
        if (case.curvature["structure"], case.curvature["kind"]) != ("diagonal", "expected"):
            raise NotImplementedError("another structure")
        net = self._backward(case, extensions.DiagGGNExact())
        return flat([p.diag_ggn_exact for p in net.parameters()]) * in_order(case, case.v)

    def factors(self, case):
        """(A, G) of every layer."""
        if case.curvature != {"structure": "kfac", "kind": "expected"} or case.network["bias"]:
            raise NotImplementedError("layers with bias, or another structure")
        net = self._backward(case, extensions.KFLR())
        return [tuple(reversed(layer.weight.kflr)) for layer in linears(net)]


class Gaussian(Categorical):
    """With `torch.nn.MSELoss`: no 1/2, and a mean over outputs, so the curvature is 2/K times ours."""

    conventions = {"layout": "separate", "fisher": "2/K"}
    likelihood, loss_function = "gaussian", torch.nn.MSELoss
