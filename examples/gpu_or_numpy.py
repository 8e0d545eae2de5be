"""The same training on the backend named on the command line: python gpu_or_numpy.py cupy

Backends: numpy, cupy (a GPU), torch, jax, array_api_strict; a second argument names the dtype. Random numbers
are drawn on the host, so every backend starts from the same theta; the results differ by rounding only.
"""

import sys

import numpy as np

import grng_ref as gr

backend = sys.argv[1] if len(sys.argv) > 1 else "numpy"
dtype = sys.argv[2] if len(sys.argv) > 2 else "float64"

rng = np.random.default_rng(0)
host_x = rng.normal(size=(200, 2))
host_y = (np.sin(3.0 * host_x[:, :1]) * host_x[:, 1:]).round(1)

# The two doors through which data moves: asarray on the way in, to_numpy on the way out.
x, y = gr.asarray((host_x, host_y), backend=backend, dtype=dtype)
problem = gr.Problem(gr.MLP((2, 12, 1), activation="tanh"), gr.Gaussian())
theta = problem.init(rng=0, backend=backend, dtype=dtype)

opt = gr.ring(problem, lr=0.5, rho=0.1, damping=lambda step: 0.1 * 0.7**step)
state = opt.init(theta)
losses = []
for _ in range(12):
    theta, state, info = opt.step(theta, state, x, y)
    losses.append(info.loss)
losses.append(float(problem.loss(theta, x, y)))

weights = gr.to_numpy(theta)
print(f"{backend} {dtype}: loss {losses[0]:.4f} -> {losses[-1]:.4f} in {len(losses) - 1} steps")
