"""A convolution written by hand: the core needs its score rows, not its class.

A 1-D convolution with tanh, averaged over positions, and a linear softmax readout, in plain NumPy. Positions
share the filters, so no layer of `gr.MLP` describes it. All that `gr.natural_direction` and the others need
is the Jacobian of the outputs, the likelihood's factor, and a gradient.
"""

import numpy as np

import grng_ref as gr

WIDTH, FILTERS, CLASSES, N = 3, 4, 3, 40
rng = np.random.default_rng(0)
x = rng.normal(size=(N, 10))
y = rng.integers(0, CLASSES, size=N)
patches = np.lib.stride_tricks.sliding_window_view(x, WIDTH, axis=1)  # (N, positions, WIDTH)
theta = rng.normal(size=FILTERS * WIDTH + CLASSES * FILTERS)
likelihood = gr.Categorical()


def outputs_and_jacobian(theta):
    """Outputs f (N, CLASSES) and df/dtheta (N, CLASSES, P), filters first, each block row-major."""
    readout = theta[FILTERS * WIDTH :].reshape(CLASSES, FILTERS)
    hidden = np.tanh(patches @ theta[: FILTERS * WIDTH].reshape(FILTERS, WIDTH).T)  # (N, positions, FILTERS)
    pooled = hidden.mean(axis=1)
    by_filter = np.einsum("ntf,ntw->nfw", 1.0 - hidden**2, patches) / hidden.shape[1]
    by_filters = np.einsum("kf,nfw->nkfw", readout, by_filter).reshape(N, CLASSES, -1)
    by_readout = np.einsum("kj,nf->nkjf", np.eye(CLASSES), pooled).reshape(N, CLASSES, -1)
    return pooled @ readout.T, np.concatenate([by_filters, by_readout], axis=2)


def loss(theta):
    return likelihood.loss(outputs_and_jacobian(theta)[0], y).mean()


def gradient(theta):
    f, jacobian = outputs_and_jacobian(theta)
    return np.einsum("nk,nkp->p", likelihood.gradient(f, y), jacobian) / N


def difference(function, v, h=1e-5):
    """The central difference of a function of theta along v."""
    return (function(theta + h * v) - function(theta - h * v)) / (2.0 * h)


f, jacobian = outputs_and_jacobian(theta)
B = (likelihood.factor(f).transpose(0, 2, 1) @ jacobian).reshape(N * CLASSES, -1) / np.sqrt(N)
c = likelihood.coefficients(f, y).reshape(-1) / np.sqrt(N)  # g = B^T c
g = gradient(theta)
natural = gr.natural_direction(B, g, damping=1e-2, coefficients=c)
ring = gr.ring_direction(B, g, rho=0.5, damping=1e-2, coefficients=c)
reng = gr.reng_direction(B, g, lambda v: difference(gradient, v), rho=0.5, damping=1e-2)

slopes = np.array([difference(loss, e) for e in np.eye(theta.size)])
moved = np.stack([difference(lambda t: outputs_and_jacobian(t)[0], e) for e in np.eye(theta.size)], axis=-1)
errors = [np.abs(a - b).max() / np.abs(b).max() for a, b in ((slopes, g), (moved, jacobian))]
print(f"against central differences: gradient {errors[0]:.0e}, Jacobian {errors[1]:.0e}")
for name, d in {"natural": natural, "RING": ring, "RENG": reng}.items():
    print(f"{name:<8} direction, step 0.5: loss {loss(theta):.4f} -> {loss(theta - 0.5 * d):.4f}")
