"""The network and the data of a case in PyTorch: what the adapters of PyTorch's libraries share.

Their parameters are flat in the order of ``module.parameters()``, each layer's weights before its bias: the
layout "separate". That is what `in_order` makes of our vectors, and what the adapters declare.
"""

from __future__ import annotations

import torch

ACTIVATIONS = {
    "tanh": torch.nn.Tanh,
    "relu": torch.nn.ReLU,
    "sigmoid": torch.nn.Sigmoid,
    "identity": torch.nn.Identity,
}


def module(case):
    """The network as a `torch.nn.Sequential`; only plain ones."""
    network = case.network
    if network["parameterization"] != "standard" or network["scales"] or network["frozen"]:
        raise NotImplementedError("a network with scales or with frozen layers")
    if network["activation"] not in ACTIVATIONS:
        raise NotImplementedError(f"the activation {network['activation']}")
    parts = []
    for W, b in case.layers:
        linear = torch.nn.Linear(W.shape[1], W.shape[0], bias=b is not None, dtype=W.dtype)
        with torch.no_grad():
            linear.weight.copy_(W)
            if b is not None:
                linear.bias.copy_(b)
        parts += [linear, ACTIVATIONS[network["activation"]]()]
    return torch.nn.Sequential(*parts[:-1])


def linears(net):
    """The layers that have parameters."""
    return [layer for layer in net if isinstance(layer, torch.nn.Linear)]


def in_order(case, vector):
    """A vector over our parameters, flat in the order of ``module.parameters()``."""
    parts, start = [], 0
    for W, b in case.layers:
        rows, columns = W.shape[0], W.shape[1] + (b is not None)
        layer = vector[start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
        parts += [layer[:, : W.shape[1]].reshape(-1), layer[:, W.shape[1] :].reshape(-1)]
    return torch.cat(parts)


def flat(parts):
    """One vector of what autograd gives, a tensor for each parameter."""
    return torch.cat([part.detach().reshape(-1) for part in parts])


def mean_loss(case, f, y):
    """The mean negative log likelihood, without terms constant in f."""
    functional, name = torch.nn.functional, case.likelihood["name"]
    if name == "gaussian":
        return ((f - y) ** 2).sum() / (2 * len(f) * case.likelihood["variance"])
    if name == "categorical":
        return functional.cross_entropy(f, y)
    if name == "bernoulli":
        return functional.binary_cross_entropy_with_logits(f, y, reduction="sum") / len(f)
    return functional.poisson_nll_loss(f, y, log_input=True, reduction="sum") / len(f)
