"""Bad input that only PyTorch's arrays can be."""

from __future__ import annotations

from typing import Any

from support import import_peer

import grng_ref as gr

from .values import B_, DOOR, FLOAT, PROBLEM, T_, THETA, B, G, X, Y


def tensor(array: Any) -> Any:
    return gr.asarray(array, backend="torch")


def tracked(array: Any) -> Any:
    return tensor(array).requires_grad_()


def halved(array: Any) -> Any:
    return tensor(array).to(import_peer("torch").bfloat16)


# fmt: off
TABLE: dict[str, list[tuple[Any, ...]]] = {
    "natural_direction": [
        ("tensor that requires grad", lambda: gr.natural_direction(tracked(B), tensor(G), damping=0.1),
         T_, "B", "pass B.detach()", "requires grad"),
        ("tensor beside a NumPy array", lambda: gr.natural_direction(tensor(B), G, damping=0.1),
         T_, "g", DOOR, "numpy but B to torch"),
    ],
    "Problem.loss": [
        ("theta that requires grad", lambda: PROBLEM.loss(tracked(THETA), tensor(X), tensor(Y)),
         T_, "theta", "pass theta.detach()", "requires grad"),
        ("bfloat16", lambda: PROBLEM.loss(halved(THETA), halved(X), tensor(Y)),
         T_, "theta", FLOAT, "dtype torch.bfloat16"),
        ("boolean labels", lambda: PROBLEM.loss(tensor(THETA), tensor(X), tensor(Y == 1)),
         T_, "y", "an integer dtype", "got torch.bool"),
    ],
    "to_numpy": [
        ("dtype that NumPy lacks", lambda: gr.to_numpy(halved(X)), B_, "NumPy", "cast the", "bfloat16"),
    ],
    "asarray": [
        ("no GPU", lambda: gr.asarray(X, backend="torch", device="cuda:99"),
         B_, "device", "backend 'torch'", "'cuda:99'"),
    ],
}
# fmt: on
