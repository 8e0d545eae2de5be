"""R-Kalman on a linear-Gaussian model, batch by batch: the filter's Gaussian is the exact posterior.

With a linear model the linearisation at the mean leaves nothing out, so without regularization, forgetting
and noise the filter is Bayes' rule itself, whatever the order and the size of the batches.
"""

import numpy as np

import grng_ref as gr

PRIOR_VARIANCE, NOISE_VARIANCE = 4.0, 0.25
rng = np.random.default_rng(1)
x = rng.normal(size=(60, 3))
truth = np.array([1.0, -2.0, 0.5, 3.0])  # three weights and the bias
design = np.concatenate([x, np.ones((60, 1))], axis=1)
y = (design @ truth + np.sqrt(NOISE_VARIANCE) * rng.normal(size=60))[:, None]

problem = gr.Problem(gr.MLP((3, 1)), gr.Gaussian(variance=NOISE_VARIANCE))


def filtered(order, batch, rho=0.0):
    """Mean and covariance after all examples, in the given order, ``batch`` of them a step."""
    opt = gr.rkalman(problem, prior_variance=PRIOR_VARIANCE, rho=rho)
    theta = np.zeros(problem.num_parameters)
    state = opt.init(theta)
    for start in range(0, 60, batch):
        chosen = order[start : start + batch]
        theta, state, _ = opt.step(theta, state, x[chosen], y[chosen])
    return theta, state.covariance()


# The closed form, from the normal equations: it uses nothing of the filter.
information = np.eye(4) / PRIOR_VARIANCE + design.T @ design / NOISE_VARIANCE
covariance = np.linalg.inv(information)
mean = covariance @ (design.T @ y[:, 0]) / NOISE_VARIANCE

errors = {}
for name, order, batch in (
    ("one batch", np.arange(60), 60),
    ("one by one", np.arange(60), 1),
    ("permuted", rng.permutation(60), 7),
):
    m, P = filtered(order, batch)
    errors[name] = max(np.abs(m - mean).max(), np.abs(P - covariance).max())
    print(f"{name:<10}  largest error of mean and covariance {errors[name]:.0e}")

regularized_mean, regularized = filtered(np.arange(60), 7, rho=0.01)
shrunk = np.trace(regularized) / np.trace(covariance)
print(f"with rho = 0.01 the filter is more certain: trace of the covariance times {shrunk:.2f}")
