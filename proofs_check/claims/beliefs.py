"""Structured beliefs of the Kalman filter: the step and the projection that each of them states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity
from proofs_check.data import Instance, on_host
from proofs_check.filtering import FilterStep, filter_steps, one_of_each_likelihood
from proofs_check.tolerance import roundoff

OPTIONS: dict[str, Any] = {"forgetting": 0.95, "process_noise": 0.01, "rho": 0.1}
PRIOR_VARIANCE = 0.25

Reference = Callable[[Instance, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Joint information and gradient -> the step, and the covariance afterwards."""


def _joint_information(
    instance: Instance, step: FilterStep, regularization: str
) -> tuple[np.ndarray, np.ndarray]:
    """Information of prediction, batch and regularization from the filter's own belief, and the gradient."""
    size, rho = len(step.delta), OPTIONS["rho"]
    predicted = on_host(step.before.covariance()) / OPTIONS["forgetting"]
    predicted += OPTIONS["process_noise"] * np.eye(size)
    fisher, g = step.moments(instance.problem)
    if regularization == "implicit":
        return np.linalg.inv(predicted) + fisher + _precision(step, g) * np.eye(size), g
    hessian = on_host(instance.problem.hessian(step.theta, step.x, step.y))
    information = np.linalg.inv(predicted) + fisher + step.num_examples * rho * hessian @ hessian
    return information, g + rho * hessian @ g


def _precision(step: FilterStep, g: np.ndarray) -> float:
    """``N rho |g|^2`` of the mean gradient, which implicit regularization adds."""
    return OPTIONS["rho"] * float(g @ g) / step.num_examples


def _agrees(
    instance: Instance,
    steps: list[FilterStep],
    right: Reference,
    wrong: Reference,
    regularization: str = "implicit",
) -> list[Finding]:
    """Steps and covariances of the filter, each in units of its own size, against a reference."""
    joint = [_joint_information(instance, step, regularization) for step in steps]
    condition = max(float(np.linalg.cond(information)) for information, _ in joint)
    limit = roundoff(instance.run, condition=condition, terms=steps[0].num_examples * 3)

    def findings(reference: Reference) -> list[Finding]:
        deltas, covariances = zip(*(reference(instance, *one) for one in joint), strict=True)
        pairs = {
            "step": ([step.delta for step in steps], deltas),
            "covariance": ([step.covariance for step in steps], covariances),
        }
        return [
            identity(
                np.stack([a / np.linalg.norm(b) for a, b in zip(ours, theirs, strict=True)]),
                np.stack([b / np.linalg.norm(b) for b in theirs]),
                **limit,
                detail=f"{what}, {instance.name}, {len(steps)} steps, {regularization}",
            )
            for what, (ours, theirs) in pairs.items()
        ]

    return [one.with_control(bad) for one, bad in zip(findings(right), findings(wrong), strict=True)]


def _steps(instance: Instance, belief: Any, batch_size: int, **more: Any) -> list[FilterStep]:
    optimizer = gr.rkalman(instance.problem, belief=belief, **OPTIONS, **more)
    return list(filter_steps(instance, optimizer, instance.batches(batch_size)))


# --- projections of the covariance and of the information ----------------------------------------------


def _joint_gain(pattern: Callable[[Instance], np.ndarray]) -> Reference:
    """The joint step; of the posterior covariance what the pattern (P, P) of ones and zeros keeps."""

    def reference(
        instance: Instance, information: np.ndarray, g: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return -np.linalg.solve(information, g), pattern(instance) * np.linalg.inv(information)

    return reference


def _own_gain(pattern: Callable[[Instance], np.ndarray]) -> Reference:
    """Of the posterior information what the pattern keeps, its inverse, and the step with it."""

    def reference(
        instance: Instance, information: np.ndarray, g: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        kept = pattern(instance) * information
        return -np.linalg.solve(kept, g), np.linalg.inv(kept)

    return reference


def _layers(instance: Instance) -> np.ndarray:
    pattern = np.zeros((instance.problem.num_parameters,) * 2)
    for part in instance.layer_slices:
        pattern[part, part] = 1.0
    return pattern


def _diagonal(instance: Instance) -> np.ndarray:
    return np.eye(instance.problem.num_parameters)


@claim(
    "block-diagonal-belief-is-the-decoupled-filter",
    statement="The block-diagonal belief takes the joint step, -(Y^- + N F + N rho |g|^2 I)^{-1} N g or "
    "-(Y^- + N F + N rho H^2)^{-1} N (g + rho H g), and keeps the diagonal blocks (layers) of the joint "
    "posterior covariance.",
    source="classical result (decoupled extended Kalman filter, Puskorius and Feldkamp 1991)",
    kind="identity",
    params={"steps": 6, "batch_size": 3, "regularizations": ["implicit", "explicit"]},
)
def block_diagonal(run: Run, steps: int, batch_size: int, regularizations: list[str]) -> Finding:
    """Fails if a block steps with its own information, or its covariance ignores the other blocks.

    Teacher-forced: each step from the filter's own mean and belief, with forgetting and process noise.
    Control of step and covariance: the diagonal blocks of the information kept, and the step made with them.
    """

    def check(instance: Instance, kind: str) -> list[Finding]:
        blocks = [part.stop - part.start for part in instance.layer_slices]
        belief = gr.block_diagonal_belief(instance.theta, prior_variance=PRIOR_VARIANCE, blocks=blocks)
        records = _steps(instance, belief, batch_size, regularization=kind)
        return _agrees(instance, records, _joint_gain(_layers), _own_gain(_layers), kind)

    networks = one_of_each_likelihood(run, num_examples=steps * batch_size, key=81)
    return combine(found for one in networks for kind in regularizations for found in check(one, kind))


@claim(
    "diagonal-beliefs-are-their-projections",
    statement="The diagonal belief's projection 'covariance' takes the joint step and keeps the diagonal of "
    "the joint posterior covariance; 'precision' keeps the diagonal of the posterior information and steps "
    "with it.",
    source="classical result (Puskorius and Feldkamp 1991; Ollivier 2018)",
    kind="identity",
    params={"steps": 6, "batch_size": 3},
)
def diagonal(run: Run, steps: int, batch_size: int) -> Finding:
    """Fails if one projection's variances or gain are taken for the other's.

    Teacher-forced: each step from the filter's own mean and belief, with forgetting and process noise.
    Control of step and variances: the other projection's formulas.
    """
    both = {"covariance": _joint_gain(_diagonal), "precision": _own_gain(_diagonal)}

    def check(instance: Instance, projection: str) -> list[Finding]:
        belief = gr.diagonal_belief(instance.theta, prior_variance=PRIOR_VARIANCE, projection=projection)
        records = _steps(instance, belief, batch_size)
        (other,) = both.keys() - {projection}
        return _agrees(instance, records, both[projection], both[other])

    networks = one_of_each_likelihood(run, num_examples=steps * batch_size, key=82)
    return combine(found for one in networks for projection in both for found in check(one, projection))


# --- low rank ------------------------------------------------------------------------------------------


@claim(
    "low-rank-belief-is-its-truncation",
    statement="The low-rank belief diag(d) + W W^T predicts exactly and takes the joint step; of "
    "[W, sqrt(N) B^T] it keeps the r largest singular values and vectors, and adds the diagonal of the "
    "remainder to d.",
    source="our reconstruction (low-rank plus diagonal filters are classical)",
    kind="identity",
    params={"steps": 6, "batch_size": 3, "rank": 5},
)
def low_rank(run: Run, steps: int, batch_size: int, rank: int) -> Finding:
    """Fails if the remainder is dropped, the truncation is not the best one, or the step is made after it.

    Teacher-forced: each step from the filter's own mean and belief, with forgetting and process noise.
    Controls: for the prediction, process noise dropped; for step and projection, the remainder dropped.
    """

    def check(instance: Instance) -> list[Finding]:
        belief = gr.low_rank_belief(instance.theta, prior_variance=PRIOR_VARIANCE, rank=rank)
        records = _steps(instance, belief, batch_size)
        return [*_predictions(instance, records), *_truncations(instance, records, rank)]

    networks = one_of_each_likelihood(run, num_examples=steps * batch_size, key=83)
    return combine(found for one in networks for found in check(one))


def _predicted(step: FilterStep) -> Any:
    options = {"forgetting": OPTIONS["forgetting"], "noise": OPTIONS["process_noise"]}
    return step.before.belief.predict(**options)


def _predictions(instance: Instance, steps: list[FilterStep]) -> list[Finding]:
    """The information after the prediction against the inverse of ``P / phi + q I``."""
    computed = np.stack([on_host(_predicted(step).information()) for step in steps])
    covariances = np.stack([on_host(step.before.covariance()) for step in steps])
    limit = roundoff(instance.run, condition=float(np.max(np.linalg.cond(covariances))))

    def finding(noise: float) -> Finding:
        exact = np.linalg.inv(covariances / OPTIONS["forgetting"] + noise * np.eye(covariances.shape[1]))
        detail = f"prediction, {instance.name}, {len(steps)} steps"
        return identity(computed, exact, **limit, detail=detail)

    return [finding(OPTIONS["process_noise"]).with_control(finding(0.0))]


def _truncations(instance: Instance, steps: list[FilterStep], rank: int) -> list[Finding]:
    """Step and information after the batch, from the predicted d and W."""
    rights, wrongs, conditions = [], [], []
    for step in steps:
        belief = _predicted(step)
        fisher, g = step.moments(instance.problem)
        d, W = on_host(belief.precisions) + _precision(step, g), on_host(belief.columns)
        values, vectors = np.linalg.eigh(W @ W.T + fisher)
        kept = (vectors[:, -rank:] * values[-rank:]) @ vectors[:, -rank:].T
        left = np.diag(W @ W.T + fisher - kept)
        joint = np.diag(d) + W @ W.T + fisher
        rights.append((-np.linalg.solve(joint, g), np.diag(d + left) + kept))
        wrongs.append((-np.linalg.solve(np.diag(d) + kept, g), np.diag(d) + kept))
        # close singular values may mix: by roundoff over their gap, times what is left out
        mixing = 1 + values[-rank - 1] / (values[-rank] - values[-rank - 1])
        conditions.append(max(float(np.linalg.cond(joint)), float(mixing)))
    limit = roundoff(instance.run, condition=max(conditions), terms=3 * steps[0].num_examples)

    def findings(references: list[tuple[np.ndarray, np.ndarray]]) -> list[Finding]:
        deltas, informations = (np.stack(part) for part in zip(*references, strict=True))
        detail = f"{instance.name}, {len(steps)} steps, rank {rank}"
        units = np.linalg.norm(deltas, axis=1, keepdims=True)
        ours = np.stack([step.delta for step in steps])
        return [
            identity(ours / units, deltas / units, **limit, detail=f"step, {detail}"),
            identity(
                np.stack([step.information for step in steps]),
                informations,
                **limit,
                detail=f"information, {detail}",
            ),
        ]

    return [one.with_control(bad) for one, bad in zip(findings(rights), findings(wrongs), strict=True)]


@claim(
    "low-rank-belief-of-full-rank-is-the-full-belief",
    statement="With as many columns as parameters the low-rank belief is the full one: same steps, same "
    "information.",
    source="classical result (nothing is truncated)",
    kind="identity",
    params={"steps": 10, "batch_size": 3, "planted_rank": 6},
)
def low_rank_of_full_rank(run: Run, steps: int, batch_size: int, planted_rank: int) -> Finding:
    """Fails if the truncation, or a prediction of d and W apart, loses anything.

    The low-rank filter is teacher-forced: it gets the full filter's means, and keeps its own belief. Control
    of steps and information: rank 6.
    """

    def check(instance: Instance) -> list[Finding]:
        full = _steps(instance, gr.full_belief(instance.theta, prior_variance=PRIOR_VARIANCE), batch_size)
        condition = max(float(np.linalg.cond(step.information)) for step in full)
        limit = roundoff(run, condition=condition, terms=3 * batch_size * len(full))

        def findings(rank: int) -> list[Finding]:
            belief = gr.low_rank_belief(instance.theta, prior_variance=PRIOR_VARIANCE, rank=rank)
            optimizer = gr.rkalman(instance.problem, belief=belief, **OPTIONS)
            state, pairs = optimizer.init(instance.theta), []
            for step in full:
                delta, state, _ = optimizer.update(step.theta, state, step.x, step.y)
                unit, size = np.linalg.norm(step.delta), np.linalg.norm(step.information)
                pairs.append((on_host(delta) / unit, step.delta / unit,
                              on_host(state.information()) / size, step.information / size))  # fmt: skip
            delta, right_delta, information, right_information = map(np.stack, zip(*pairs, strict=True))
            detail = f"{instance.name}, {len(full)} steps"
            return [
                identity(delta, right_delta, **limit, detail=f"steps, {detail}"),
                identity(information, right_information, **limit, detail=f"information, {detail}"),
            ]

        planted = findings(planted_rank)
        exact = findings(instance.problem.num_parameters)
        return [one.with_control(bad) for one, bad in zip(exact, planted, strict=True)]

    networks = one_of_each_likelihood(run, num_examples=steps * batch_size, key=84)
    return combine(found for one in networks for found in check(one))
