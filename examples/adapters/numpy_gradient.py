"""An adapter in plain NumPy: one linear layer with a Gaussian likelihood, and its natural gradient's pieces.

From this directory: ``grng-ref check numpy_gradient:LeastSquares --cases one-layer``
"""

from __future__ import annotations

import numpy as np


class LeastSquares:
    """Outputs, loss and gradient of linear least squares."""

    library, dtype = "numpy", "float64"

    def outputs(self, case):
        """W x + b."""
        ((W, b),) = case.layers
        return case.x @ W.T + b

    def loss(self, case):
        """Half the mean squared residual, over the variance."""
        return np.sum((self.outputs(case) - case.y) ** 2) / (2 * len(case.x) * case.likelihood["variance"])

    def gradient(self, case):
        """A list of pairs (W, b), one a layer, as autodiff gives them."""
        error = (self.outputs(case) - case.y) / (len(case.x) * case.likelihood["variance"])
        return [(error.T @ case.x, error.sum(axis=0))]
