"""One step of every optimizer on the digits images, beside the step that it should equal or approach."""

from sklearn.datasets import load_digits

import grng_ref as gr

images, labels = load_digits(return_X_y=True)
x, y = images[:128] / 16.0, labels[:128]
problem = gr.Problem(gr.MLP((64, 8, 10), activation="tanh"), gr.Categorical())
theta = problem.init(rng=0)
damping, rho = 0.1, 0.1

ngd = gr.ngd(problem, lr=1.0, damping=damping)  # the full Fisher: exact
ring = gr.ring(problem, lr=1.0, damping=damping, rho=rho)
reng = gr.reng(problem, lr=1.0, damping=damping, rho=rho)
kfac = gr.ngd(problem, lr=1.0, damping=damping, structure="kfac")
kalman = gr.rkalman(problem, prior_variance=1.0 / (128 * damping), rho=rho)

steps, losses = {}, {}
for name, opt in {"NGD": ngd, "RING": ring, "RENG": reng, "K-FAC": kfac, "R-Kalman": kalman}.items():
    steps[name], _, info = opt.update(theta, opt.init(theta), x, y)
    losses[name] = info.loss, float(problem.loss(theta + steps[name], x, y))
    print(f"{name:<8}  loss {losses[name][0]:.4f} -> {losses[name][1]:.4f}  step {info.step_norm:.3f}")

approximation = gr.compare(steps["K-FAC"], steps["NGD"])
identity = gr.compare(steps["R-Kalman"], steps["RING"])
print(f"K-FAC against exact NGD: cosine {approximation.cosine:.3f}, error {approximation.relative_error:.2f}")
print(f"R-Kalman against RING: equal to 10 digits: {identity.relative_error < 1e-10}")
