"""PyTorch's own autodiff, and its optimizers SGD and AdamW.

From this directory: ``grng-ref check torch_autograd:Autograd --cases adamw-four-steps,sgd-nesterov``
"""

from __future__ import annotations

import torch
from torch_network import flat, in_order, mean_loss, module


class Autograd:
    """Derivatives by `torch.autograd`, steps by `torch.optim`; flat vectors in PyTorch's order."""

    library, dtype = "torch", "float64"
    conventions = {"layout": "separate"}

    def outputs(self, case):
        """The network's outputs."""
        return module(case)(case.x)

    def loss(self, case):
        """The mean loss."""
        return mean_loss(case, self.outputs(case), case.y)

    def gradient(self, case):
        """By backpropagation."""
        net = module(case)
        return flat(torch.autograd.grad(mean_loss(case, net(case.x), case.y), list(net.parameters())))

    def jacobian(self, case):
        """One backward pass for each output of each example."""
        net = module(case)
        parameters, f = list(net.parameters()), net(case.x)
        rows = [flat(torch.autograd.grad(one, parameters, retain_graph=True)) for one in f.reshape(-1)]
        return torch.stack(rows).reshape(*f.shape, -1)

    def hvp(self, case):
        """A backward pass through the gradient."""
        net = module(case)
        parameters = list(net.parameters())
        g = torch.autograd.grad(mean_loss(case, net(case.x), case.y), parameters, create_graph=True)
        inner = torch.cat([part.reshape(-1) for part in g]) @ in_order(case, case.v)
        return flat(torch.autograd.grad(inner, parameters))

    def regularized_gradient(self, case):
        """The gradient of ``loss + rho/2 |gradient|^2``, by autodiff of that sum."""
        net = module(case)
        parameters = list(net.parameters())
        loss = mean_loss(case, net(case.x), case.y)
        g = torch.autograd.grad(loss, parameters, create_graph=True)
        return flat(torch.autograd.grad(loss + case.rho / 2 * sum((part**2).sum() for part in g), parameters))

    def delta(self, case):
        """The first step."""
        return self._path(case, 1)[0] - in_order(case, case.theta)

    def parameters(self, case):
        """After every step."""
        return torch.stack(self._path(case, case.steps))

    def _path(self, case, steps):
        net = module(case)
        opt, after = self.optimizer(case, list(net.parameters())), []
        for step in range(steps):
            batch = case.batch(step)
            for group in opt.param_groups:
                group["lr"] = case.settings(step)["lr"]
            opt.zero_grad()
            mean_loss(case, net(batch.x), batch.y).backward()
            opt.step()
            after.append(flat(net.parameters()))
        return after

    def optimizer(self, case, parameters):
        """PyTorch's optimizer with the settings of the case."""
        settings = dict(case.optimizer)
        name = settings.pop("name")
        if name == "sgd":
            return torch.optim.SGD(parameters, **settings)
        if name == "adamw":
            settings["betas"] = settings.pop("beta1"), settings.pop("beta2")
            return torch.optim.AdamW(parameters, **settings)
        raise NotImplementedError(f"the optimizer {name}")


class Pairs:
    """The gradient as per-layer pairs ``(W, b)``: no order of the parameters to declare."""

    library, dtype = "torch", "float64"

    def gradient(self, case):
        """Pairs (W, b); b is None without bias."""
        net = module(case)
        loss = mean_loss(case, net(case.x), case.y)
        parts = iter(torch.autograd.grad(loss, list(net.parameters())))
        return [(next(parts), None if b is None else next(parts)) for _, b in case.layers]


class CoupledDecay(Autograd):
    """A common mistake, on purpose: Adam with an L2 term where AdamW is meant."""

    def optimizer(self, case, parameters):
        """`torch.optim.Adam` with AdamW's settings."""
        if case.optimizer["name"] != "adamw":
            raise NotImplementedError("an optimizer other than AdamW")
        betas = case.beta1, case.beta2
        return torch.optim.Adam(
            parameters, lr=case.lr, betas=betas, eps=case.eps, weight_decay=case.weight_decay
        )
