"""SGD and AdamW against PyTorch's own: 100 steps on gradients of the same problem, each on its own path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import import_peer

import grng_ref as gr

pytestmark = pytest.mark.peers

torch = import_peer("torch")

STEPS = 100
PROMISED = 1e-12  # relative difference of the steps that the project promises, in float64
SIZES, EXAMPLES = (8, 16, 4), 32

VARIANTS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sgd": (gr.sgd, torch.optim.SGD, {"lr": 0.1}),
    "sgd, decay": (gr.sgd, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.05}),
    "momentum": (gr.sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "momentum, decay": (gr.sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    "nesterov": (gr.sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    "nesterov, decay": (
        gr.sgd,
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05},
    ),
    "adamw, defaults": (gr.adamw, torch.optim.AdamW, {"lr": 0.01}),
    "adamw": (
        gr.adamw,
        torch.optim.AdamW,
        {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.3},
    ),
}


class Run:
    """The same problem and start for both; theta and the gradient live as one flat tensor."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.problem = gr.Problem(gr.MLP(SIZES, activation="tanh"), gr.Categorical())
        self.theta = self.problem.init(rng)
        self.x = rng.standard_normal((EXAMPLES, SIZES[0]))
        self.y = rng.integers(0, SIZES[-1], EXAMPLES)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = (np.arange(8) + 5 * step) % EXAMPLES
        return self.x[chosen], self.y[chosen]

    def ours(self, make: Any, options: dict[str, Any], schedule: Any = None) -> list[np.ndarray]:
        """theta after every step."""
        opt = make(self.problem, **options | ({"lr": schedule} if schedule else {}))
        theta, state, after = self.theta, opt.init(self.theta), []
        for step in range(STEPS):
            theta, state, _ = opt.step(theta, state, *self.batch(step))
            after.append(theta)
        return after

    def theirs(self, optimizer: Any, options: dict[str, Any], schedule: Any = None) -> list[np.ndarray]:
        """theta after every step of PyTorch's, which follows its own path."""
        parameter = torch.tensor(self.theta, requires_grad=True)
        opt, after = optimizer([parameter], **options), []
        for step in range(STEPS):
            theta = parameter.detach().numpy().copy()
            parameter.grad = torch.from_numpy(self.problem.gradient(theta, *self.batch(step)))
            if schedule:
                opt.param_groups[0]["lr"] = schedule(step)
            opt.step()
            after.append(parameter.detach().numpy().copy())
        return after


def difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest relative (normwise) difference of theta after a step."""
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_hundred_steps_are_those_of_pytorch(variant):
    make, optimizer, options = VARIANTS[variant]
    run = Run()
    ours, theirs = run.ours(make, options), run.theirs(optimizer, options)
    assert np.linalg.norm(ours[-1] - run.theta) > 0.1 * np.linalg.norm(run.theta)  # they went somewhere
    assert difference(ours, theirs) <= PROMISED


@pytest.mark.parametrize("variant", ["momentum, decay", "nesterov", "adamw"])
def test_a_schedule_acts_as_a_changed_lr_does_in_pytorch(variant):
    make, optimizer, options = VARIANTS[variant]
    run = Run()

    def schedule(step: int) -> float:
        return options["lr"] * (0.5 if step % 7 < 3 else 1.0) / (1 + 0.02 * step)

    assert difference(run.ours(make, options, schedule), run.theirs(optimizer, options, schedule)) <= PROMISED


@pytest.mark.parametrize(
    ("variant", "changed", "optimizer"),
    [
        ("momentum", {"dampening": 0.1}, torch.optim.SGD),  # the gradient enters the buffer damped
        ("nesterov", {"nesterov": False}, torch.optim.SGD),
        ("sgd, decay", {"weight_decay": 0.049}, torch.optim.SGD),
        ("adamw", {}, torch.optim.Adam),  # the decay is coupled
        ("adamw", {"eps": 1.01e-4}, torch.optim.AdamW),
        ("adamw", {"betas": (0.8, 0.951)}, torch.optim.AdamW),
    ],
)
def test_another_update_is_told_apart(variant, changed, optimizer):
    make, _, options = VARIANTS[variant]
    run = Run()
    assert difference(run.ours(make, options), run.theirs(optimizer, options | changed)) > 1e6 * PROMISED


@pytest.mark.parametrize("variant", ["nesterov, decay", "adamw, defaults"])
def test_steps_on_tensors_are_those_of_pytorch(variant):
    make, optimizer, options = VARIANTS[variant]
    run = Run()
    theirs = run.theirs(optimizer, options)
    run.theta, run.x, run.y = gr.asarray((run.theta, run.x, run.y), backend="torch")
    assert difference(gr.to_numpy(run.ours(make, options)), theirs) <= PROMISED
