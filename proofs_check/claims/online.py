"""The Kalman filter step by step: the textbook's filter, and online natural gradient, in any coordinates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, oracles
from proofs_check.data import Instance, on_host
from proofs_check.filtering import FilterStep, filter_steps, one_of_each_likelihood
from proofs_check.tolerance import roundoff

Observed = tuple[np.ndarray, np.ndarray, np.ndarray]
"""``H, y - h, R`` of a batch."""


def _steps_agree(
    instance: Instance, steps: list[FilterStep], deltas: list[np.ndarray], detail: str
) -> Finding:
    """All steps, each in units of the reference's length."""
    condition = max(float(np.linalg.cond(step.covariance)) for step in steps)
    lengths = [np.linalg.norm(delta) for delta in deltas]
    return identity(
        np.stack([step.delta / length for step, length in zip(steps, lengths, strict=True)]),
        np.stack([delta / length for delta, length in zip(deltas, lengths, strict=True)]),
        **roundoff(instance.run, condition=condition, terms=len(steps)),
        detail=f"{instance.name}, {len(steps)} steps of {instance.num_examples // len(steps)}, {detail}",
    )


# --- the textbook's filter -----------------------------------------------------------------------------


@claim(
    "filter-is-the-textbook-ekf",
    statement="With rho = 0 R-Kalman is the extended Kalman filter that observes the mean E[y|f] with its "
    "covariance: S = H P H^T + R, K = P H^T S^{-1}, theta += K (y - h), P -= K S K^T.",
    source="classical result (Ollivier 2018); the square-root information form is our choice",
    kind="identity",
    params={"steps": 20, "batch_size": 3, "settings": [[1.0, 0.0], [0.95, 0.01]]},
)
def textbook_ekf(run: Run, steps: int, batch_size: int, settings: list[list[float]]) -> Finding:
    """Fails if the filter in logit space is not the one in mean space, or predicts otherwise.

    Teacher-forced: each step starts at the filter's own mean; the reference carries its own covariance.
    Jacobians by complex step through loops. A softmax is observed without its last class, which the
    reference, unlike the filter, needs for a regular R. Controls: in the first step the covariance
    is kept, or updated to first order only, P - P H^T R^{-1} H P; and the natural parameter's Jacobian for
    the mean's (but for the Gaussian likelihood, where they are one).
    """

    def check(instance: Instance, forgetting: float, noise: float) -> list[Finding]:
        optimizer = gr.rkalman(
            instance.problem, prior_variance=0.5, forgetting=forgetting, process_noise=noise
        )
        records = list(filter_steps(instance, optimizer, instance.batches(batch_size)))

        seen = [_observation(instance, record) for record in records]

        def finding(
            observed: list[Observed], carry: Callable[[np.ndarray, np.ndarray, Observed], np.ndarray]
        ) -> Finding:
            covariance, deltas = 0.5 * np.eye(instance.problem.num_parameters), []
            for record, observation in zip(records, observed, strict=True):
                predicted = covariance / forgetting + noise * np.eye(len(covariance))
                theta = on_host(record.theta)
                mean, updated = oracles.ekf_update(theta, predicted, *observation)
                deltas.append(mean - theta)
                first = record.before.step == 0
                covariance = carry(predicted, updated, observation) if first else updated
            return _steps_agree(instance, records, deltas, f"forgetting {forgetting:g}, noise {noise:g}")

        planted = [(seen, _kept_covariance), (seen, _first_order_covariance)]
        if instance.likelihood != "gaussian":
            natural = [_natural_jacobian(instance, *pair) for pair in zip(records, seen, strict=True)]
            planted.append((natural, _updated_covariance))
        right = finding(seen, _updated_covariance)
        return [right.with_control(finding(*wrong)) for wrong in planted]

    networks = one_of_each_likelihood(run, num_examples=steps * batch_size, key=66)
    return combine(found for one in networks for setting in settings for found in check(one, *setting))


def _updated_covariance(predicted: np.ndarray, updated: np.ndarray, observed: Observed) -> np.ndarray:
    return updated


def _kept_covariance(predicted: np.ndarray, updated: np.ndarray, observed: Observed) -> np.ndarray:
    """Planted error: what was observed leaves no trace in the covariance."""
    return predicted


def _first_order_covariance(predicted: np.ndarray, updated: np.ndarray, observed: Observed) -> np.ndarray:
    """Planted error: R for S = H P H^T + R. It soon makes the covariance indefinite."""
    H, _, R = observed
    spread = predicted @ H.T
    return predicted - spread @ np.linalg.solve(R, spread.T)


def _natural_jacobian(instance: Instance, step: FilterStep, observed: Observed) -> Observed:
    """Planted error: H without its factor dh/df, with the innovation and noise of the mean."""
    _, innovation, R = observed
    jacobians = on_host(instance.problem.jacobian(step.theta, step.x))
    kept = len(R) // len(jacobians)
    return jacobians[:, :kept, :].reshape(len(R), -1), innovation, R


def _observation(instance: Instance, record: FilterStep) -> Observed:
    """``H, y - h, R`` of a batch in mean space."""
    theta, x = on_host(record.theta), on_host(record.x)
    y = gr.to_numpy(record.y)

    def network(z: np.ndarray) -> np.ndarray:
        return oracles.mlp_outputs(z, x, **instance.architecture)

    outputs, jacobians = network(theta), oracles.complex_step_jacobian(network, theta)
    if instance.likelihood != "categorical":
        return oracles.mean_space_observation(
            instance.likelihood, outputs, jacobians, y.astype(np.float64), instance.variance
        )
    parts = []
    for f, jacobian, label in zip(outputs, jacobians, y, strict=True):
        p = oracles.output_mean("categorical", f)
        spread = np.diag(p) - np.outer(p, p)
        parts.append(((spread @ jacobian)[:-1], (np.eye(len(p))[label] - p)[:-1], spread[:-1, :-1]))
    rows, innovations, covariances = zip(*parts, strict=True)
    kept = len(innovations[0])
    noise = np.zeros((len(parts) * kept,) * 2)
    for n, covariance in enumerate(covariances):
        noise[n * kept : (n + 1) * kept, n * kept : (n + 1) * kept] = covariance
    return np.concatenate(rows), np.concatenate(innovations), noise


# --- online natural gradient ---------------------------------------------------------------------------


@claim(
    "filter-is-online-natural-gradient",
    statement="With Q = 0, phi = 1 and rho = 0 the filter is online natural gradient: J_t = Y_t/(t+1), "
    "J_t = J_{t-1} + (F_t - J_{t-1})/(t+1), theta_t = theta_{t-1} - J_t^{-1} g_t/(t+1), F and g sums over "
    "the batch, J_0 = Y_0, the step with the updated J_t.",
    source="classical result (Ollivier 2018)",
    kind="identity",
    params={"steps": 25, "batch_size": 3, "prior_variance": 0.5},
)
def online_natural_gradient(run: Run, steps: int, batch_size: int, prior_variance: float) -> Finding:
    """Fails if the step uses another information than the updated one, or another step size than 1/(t+1).

    Teacher-forced over 25 steps and four likelihoods. Control: the information from before the update.
    """
    return combine(
        _is_natural_gradient(one, batch_size, prior_variance, forgetting=None)
        for one in one_of_each_likelihood(run, num_examples=steps * batch_size, key=67)
    )


@claim(
    "forgetting-is-a-constant-step",
    statement="The filter with forgetting phi = 1 - eta is online natural gradient with the constant step "
    "eta: J_t = J_{t-1} + eta (F_t - J_{t-1}), theta_t = theta_{t-1} - eta J_t^{-1} g_t, J_0 = eta Y_0.",
    source="classical result (Ollivier 2018)",
    kind="identity",
    params={"steps": 25, "batch_size": 3, "prior_variance": 0.5, "forgetting": 0.9},
)
def forgetting_is_constant_step(
    run: Run, steps: int, batch_size: int, prior_variance: float, forgetting: float
) -> Finding:
    """Fails if forgetting is applied elsewhere than before each update, or to another quantity.

    Teacher-forced over 25 steps and four likelihoods. Control: the information from before the update.
    """
    return combine(
        _is_natural_gradient(one, batch_size, prior_variance, forgetting=forgetting)
        for one in one_of_each_likelihood(run, num_examples=steps * batch_size, key=68)
    )


def _is_natural_gradient(
    instance: Instance, batch_size: int, prior_variance: float, *, forgetting: float | None
) -> Finding:
    """The filter against online natural gradient with decreasing or (given a forgetting) constant steps."""
    problem = instance.problem
    optimizer = gr.rkalman(problem, prior_variance=prior_variance, forgetting=forgetting or 1.0)
    records = list(filter_steps(instance, optimizer, instance.batches(batch_size)))
    moments = [record.moments(problem) for record in records]

    def finding(choose: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Finding:
        start = 1.0 if forgetting is None else 1.0 - forgetting
        average, deltas = start * np.eye(problem.num_parameters) / prior_variance, []
        for t, (fisher, g) in enumerate(moments, start=1):
            eta = 1 / (t + 1) if forgetting is None else 1 - forgetting
            updated = average + eta * (fisher - average)
            deltas.append(-eta * np.linalg.solve(choose(average, updated), g))
            average = updated
        name = "decreasing steps" if forgetting is None else f"constant step {1 - forgetting:g}"
        return _steps_agree(instance, records, deltas, name)

    return finding(_updated_average).with_control(finding(_average_before_update))


def _updated_average(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return after


def _average_before_update(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Planted error: the step is taken with the information from before the update."""
    return before


# --- other coordinates ---------------------------------------------------------------------------------


@claim(
    "rkalman-is-invariant-under-linear-reparameterization",
    statement="For theta = T w the filter of the network in w, from the prior N(T^{-1} theta_0, "
    "T^{-1} P_0 T^{-T}), takes the steps T^{-1} delta, and its information is T^T Y T.",
    source="classical result (Ollivier 2018)",
    kind="identity",
    params={"steps": 6, "batch_size": 3, "prior_variance": 0.1, "forgetting": 0.95},
)
def linear_reparameterization(
    run: Run, steps: int, batch_size: int, prior_variance: float, forgetting: float
) -> Finding:
    """Fails if anything but the prior depends on the coordinates: a hidden jitter, an isotropic term.

    New units and a new origin of the inputs, x' = A x + c, are such a change of the first layer's
    parameters. Teacher-forced: each step of the filter in w starts from that in theta. Controls of steps
    and information: the prior's covariance in w taken as that in theta.
    """

    def check(instance: Instance, key: int) -> list[Finding]:
        optimizer = gr.rkalman(instance.problem, prior_variance=prior_variance, forgetting=forgetting)
        records = list(filter_steps(instance, optimizer, instance.batches(batch_size)))
        affine, transform = _change_of_inputs(instance, run.rng(69, 1, key))
        # the equations in w are solved there; what comes out is carried back by T
        stretch = float(np.linalg.cond(transform))
        in_w = max(float(np.linalg.cond(transform.T @ step.information @ transform)) for step in records)
        condition = stretch * max(stretch, in_w)
        limit = roundoff(run, condition=condition, terms=batch_size)

        def findings(change: np.ndarray) -> list[Finding]:
            pairs = []
            for step in records:
                delta, information = _step_in_w(instance, step, forgetting, affine, transform, change)
                unit = np.linalg.norm(step.delta)
                back = np.linalg.inv(transform)
                pairs.append((transform @ delta / unit, step.delta / unit,
                              back.T @ information @ back, step.information))  # fmt: skip
            deltas, exact_deltas, informations, exact_informations = map(np.stack, zip(*pairs, strict=True))
            detail = f"{instance.name}, {len(records)} steps of {batch_size}"
            return [
                identity(deltas, exact_deltas, **limit, detail=f"steps, {detail}"),
                identity(informations, exact_informations, **limit, detail=f"information, {detail}"),
            ]

        planted = findings(np.eye(len(transform)))
        return [one.with_control(bad) for one, bad in zip(findings(transform), planted, strict=True)]

    networks = one_of_each_likelihood(run, num_examples=steps * batch_size, key=69)
    return combine(found for i, one in enumerate(networks) for found in check(one, i))


def _change_of_inputs(instance: Instance, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """M with ``[x'; 1] = M [x; 1]``, and T with ``theta = T w``: ``Wbar = Wbar' M`` in the first layer."""
    inputs, outputs = instance.architecture["sizes"][:2]
    affine = np.eye(inputs + 1)
    affine[:-1, :-1] = np.diag(2.0 ** rng.integers(-1, 2, size=inputs)) + 0.1 * rng.normal(
        size=(inputs, inputs)
    )
    affine[:-1, -1] = 0.5 * rng.normal(size=inputs)
    transform = np.eye(instance.problem.num_parameters)
    first = outputs * (inputs + 1)
    transform[:first, :first] = np.kron(np.eye(outputs), affine.T)
    return affine, transform


def _step_in_w(
    instance: Instance,
    step: FilterStep,
    forgetting: float,
    affine: np.ndarray,
    transform: np.ndarray,
    change: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Step and information of the filter in w, from the state that ``change`` makes of the one in theta."""
    x = on_host(step.x)
    moved = (np.hstack([x, np.ones((len(x), 1))]) @ affine.T)[:, :-1]
    root = np.linalg.qr(on_host(step.before.belief.root) @ change, mode="r")
    w, moved, root = instance.run.asarray((np.linalg.solve(transform, on_host(step.theta)), moved, root))
    optimizer = gr.rkalman(instance.problem, belief=gr.FullBelief(root), forgetting=forgetting)
    delta, after, _ = optimizer.update(w, optimizer.init(w), moved, step.y)
    return on_host(delta), on_host(after.information())
