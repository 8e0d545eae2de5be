"""An adapter in plain NumPy: a linear model's loss and gradient, and the steps of gradient descent.

    grng-ref check numpy_gradient:Softmax --cases one-layer
"""

from __future__ import annotations

import numpy as np


class Softmax:
    """Softmax regression with one layer: loss, gradient, output Fisher times Jacobian."""

    def _probabilities(self, case):
        (W, b) = case.layers[0]
        f = case.x @ W.T + b
        e = np.exp(f - f.max(axis=1, keepdims=True))
        return f, e / e.sum(axis=1, keepdims=True)

    def outputs(self, case):
        """The logits."""
        return self._probabilities(case)[0]

    def gradient(self, case):
        """Per-layer pairs (W, b), as autodiff returns them."""
        _, p = self._probabilities(case)
        error = (p - np.eye(p.shape[1])[case.y]) / len(case.x)
        return [(error.T @ case.x, error.sum(axis=0))]
