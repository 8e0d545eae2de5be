"""The planted defects of `plain_optimizers.Plain`, and the hypotheses that name them truly."""

from __future__ import annotations

from typing import Any

from conformance_cases import random_case

from grng_ref.testing.vectors import load_cases

# defect -> (group of cases, the true hypotheses)
MUTANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sum": ("first", ("loss-sum",)),
    "sum everywhere": ("natural", ("reduction-sum",)),
    "mean over outputs": ("first", ("loss-mean-outputs",)),
    "no half": ("gaussian", ("squared-error-whole-rows",)),
    "no half, Fisher too": ("gaussian", ("squared-error-whole-fisher",)),
    "variance ignored": ("gaussian", ("variance-ignored",)),
    "input scale left out": ("natural", ("scale-missing",)),
    "biases ignored": ("natural", ("bias-missing",)),
    "layer inputs without ones": ("structured", ("bias-derivatives-missing",)),
    "bias gradient missing": ("first", ("bias-gradient-missing",)),
    "gradient over N": ("first", ("derivatives-times-1/N",)),
    "Fisher sum": ("natural", ("fisher-times-N",)),
    "Fisher over N": ("natural", ("fisher-times-1/N",)),
    "Fisher over K": ("natural", ("fisher-times-1/K",)),
    "bias first": ("natural", ("layout-bias-first",)),
    "column-major": ("natural", ("layout-column-major",)),
    "weights and biases apart": ("natural", ("layout-separate",)),
    "no biases": ("natural", ("layout-no-bias",)),
    "no p p^T": ("softmax", ("output-fisher-without-pp",)),
    "output cross terms missing": ("softmax", ("output-fisher-diagonal",)),
    "output Fisher is I": ("softmax", ("output-fisher-identity",)),
    "observation epsilon 1e-1": ("softmax", ("observation-epsilon-1e-1",)),
    "observation epsilon 1e-4": ("softmax", ("observation-epsilon-1e-4",)),
    "empirical for the kind": ("expected", ("fisher-empirical",)),
    "expected for the kind": ("empirical", ("fisher-expected",)),
    "draws summed": ("monte_carlo", ("draws-summed",)),
    "outer product of the mean gradient": ("expected", ("fisher-of-mean-gradient",)),
    "cross terms missing": ("expected", ("structure-block-diagonal",)),
    "diagonal for full": ("expected", ("structure-diagonal",)),
    "block diagonal for K-FAC": ("kfac exact", ("structure-block-diagonal",)),
    "A kron G": ("kfac", ("kronecker-A-G",)),
    "factors swapped": ("kfac", ("factors-swapped",)),
    "A not normalised": ("kfac", ("A-times-N",)),
    "G over N^2": ("kfac", ("G-times-1/N^2",)),
    "bias apart in K-FAC": ("kfac", ("kfac-bias-apart",)),
    "damping on the product": ("kfac", ("damping-exact",)),
    "damping on the factors": ("kfac exact", ("damping-factored",)),
    "no pi": ("kfac", ("damping-factored-without-pi",)),
    "pi inverted": ("kfac", ("damping-pi-inverted",)),
    "pi of traces": ("kfac", ("damping-pi-of-traces",)),
    "damping on A only": ("kfac", ("damping-on-A",)),
    "damping on G only": ("kfac", ("damping-on-G",)),
    "damping without root": ("kfac", ("damping-no-root",)),
    "damping twice": ("natural", ("damping-twice",)),
    "damping squared": ("natural", ("damping-squared",)),
    "damping root": ("natural", ("damping-root",)),
    "damping times N": ("natural", ("damping-times-N",)),
    "multiplicative damping": ("expected", ("damping-multiplicative",)),
    "null space dropped": ("expected", ("null-space-dropped",)),
    "solve over N": ("natural", ("damped_solve-alone-times-1/N",)),
    "Fisher product for H": ("reng", ("hvp-fisher",)),
    "H v doubled": ("natural", ("hvp-alone-times-2",)),
    "gradient of the norm": ("reng", ("rho-norm",)),
    "gradient left out": ("reng", ("rho-gradient-left-out",)),
    "rho sign": ("reng", ("rho-negative",)),
    "rho half": ("ring", ("rho-half",)),
    "rho twice": ("reng", ("rho-twice",)),
    "rho dropped": ("ring", ("rho-dropped",)),
    "norm for its square": ("ring", ("rho-norm",)),
    "mean square for the norm": ("ring", ("rho-mean-square",)),
    "norm of the sum": ("ring", ("rho-summed-gradient",)),
    "norm per layer": ("ring", ("rho-per-layer",)),
    "rho replaces damping": ("ring", ("rho-replaces-damping",)),
    "step sign": ("steps", ("delta-subtracted",)),
    "lr left out": ("steps", ("lr-left-out",)),
    "lr twice": ("steps", ("lr-twice",)),
    "no momentum": ("kfac", ("momentum-none",)),
    "momentum dampened": ("kfac", ("momentum-dampened",)),
    "Nesterov": ("sgd", ("momentum-nesterov",)),
    "no weight decay": ("steps", ("decay-none",)),
    "decay without lr": ("kfac", ("decay-without-lr",)),
    "decay decoupled": ("sgd", ("decay-decoupled",)),
    "decay coupled": ("adamw", ("decay-coupled",)),
    "EMA uncorrected": ("kfac", ("ema-uncorrected",)),
    "EMA corrected twice": ("kfac", ("ema-corrected-twice",)),
    "EMA from I": ("kfac", ("ema-from-identity",)),
    "no EMA": ("kfac", ("ema-none",)),
    "refresh ignored": ("kfac", ("refresh-every-step",)),
    "never refreshed": ("kfac", ("refresh-only-first",)),
    "stale by one step": ("kfac", ("refresh-one-step-late",)),
    "Adam uncorrected": ("adamw", ("ema-uncorrected",)),
    "Adam squares uncorrected": ("adamw", ("ema-second-uncorrected",)),
    "eps inside": ("adamw", ("eps-inside-root",)),
    "betas swapped": ("adamw", ("betas-swapped",)),
    "Bartlett without N": ("sophia", ("bartlett-without-N",)),
    "gamma left out": ("sophia", ("gamma-left-out",)),
    "not clipped": ("sophia", ("not-clipped",)),
    "prior inverted": ("kalman", ("prior-inverted",)),
    "process noise dropped": ("kalman", ("process-noise-dropped",)),
    "process noise late": ("kalman", ("process-noise-late",)),
    "forgetting on the wrong side": ("kalman", ("forgetting-wrong-side",)),
    "no forgetting": ("kalman", ("forgetting-dropped",)),
    "forgetting after": ("kalman", ("forgetting-after-the-update",)),
    "counted twice": ("kalman", ("double-counting",)),
    "observed twice": ("kalman", ("update-repeated",)),
    "information is a mean": ("kalman", ("information-mean",)),
    "mean gradient in the filter": ("kalman", ("kalman-mean-gradient",)),
    "rho without N": ("kalman", ("rho-without-N",)),
    "gain before the update": ("kalman", ("gain-before-update",)),
    "covariance before the update": ("kalman", ("covariance-before-update",)),
    "layers separate in the belief": ("kalman", ("belief-layers-separate",)),
    "every iteration counts": ("iterated", ("iterations-counted",)),
    "iterations ignored": ("iterated", ("iterations-ignored",)),
    "no pull to the prediction": ("iterated", ("iterations-without-pull",)),
    "rest of the low rank dropped": ("low rank", ("low-rank-rest-dropped",)),
    "schedule ignored": ("schedules", ("schedule-ignored",)),
    "H exact for the difference": ("difference", ("hvp-exact",)),
    "float32 inside": ("natural", ("precision-float32",)),
}


def groups() -> dict[str, list[Any]]:
    """Cases by group: small, of two or three seeds each."""
    softmax = {"likelihood": "categorical"}
    return {
        "first": [random_case(i, "sgd") for i in (1, 2, 3)],
        "natural": [
            random_case(i, "ngd", structure=s, damping_kind="exact")
            for i, s in ((1, "full"), (2, "kfac"), (6, "full"))
        ],
        "structured": [
            random_case(i, "ngd", structure=s, damping_kind="exact")
            for i, s in ((1, "kfac"), (2, "full"), (6, "full"))
        ],
        "gaussian": [
            random_case(i, "ngd", "gaussian", structure="full", damping_kind="exact") for i in (1, 2, 6)
        ],
        "softmax": [
            random_case(i, "ngd", kind="expected", structure="full", damping_kind="exact", **softmax)
            for i in (1, 2, 6)
        ],
        "expected": [
            random_case(i, "ngd", kind="expected", structure="full", damping_kind="exact") for i in (1, 2, 6)
        ],
        "empirical": [
            random_case(i, "ngd", kind="empirical", structure="full", damping_kind="exact") for i in (1, 2, 6)
        ],
        "monte_carlo": [
            random_case(i, "ngd", kind="monte_carlo", structure="full", damping_kind="exact")
            for i in (1, 2, 6)
        ],
        "kfac": [random_case(i, "kfac", kind="expected", refresh=r) for i, r in ((1, 1), (2, 2), (5, 1))],
        "kfac exact": [
            random_case(i, "ngd", kind="expected", structure="kfac", damping_kind="exact") for i in (1, 2, 6)
        ],
        "reng": [random_case(i, "reng", structure="full", damping_kind="exact") for i in (1, 2, 6)],
        "ring": [random_case(i, "ring", structure="full", damping_kind="exact") for i in (1, 2, 6)],
        "steps": [random_case(1, "sgd"), random_case(2, "kfac"), random_case(3, "adamw")],
        "sgd": [random_case(i, "sgd") for i in (1, 2, 3)],
        "adamw": [random_case(i, "adamw") for i in (1, 2, 3)],
        "sophia": [random_case(i, "sophia", estimator="gauss_newton_bartlett") for i in (1, 2, 3)],
        "kalman": [random_case(i, "rkalman", belief="full", projection=None) for i in (1, 2, 3)],
        "iterated": [
            random_case(i, "rkalman", belief="full", projection=None, iterations=n)
            for i, n in ((1, 2), (2, 3), (3, 2))
        ],
        "low rank": [
            random_case(i, "rkalman", belief="low_rank", projection=None, rank=3, process_noise=0.0)
            for i in (1, 2, 3)
        ],
        "schedules": [random_case(i, name, schedule=True) for i, name in enumerate(("ring", "sgd", "adamw"))],
        "difference": [case for case in load_cases() if case.id == "reng-finite-difference"],
    }


def outcome(report: Any, truth: tuple[str, ...]) -> str:
    """One of: missed, named, set, unnamed, wrong name."""
    if report.ok:
        return "missed"
    causes = report.diagnosis.causes
    if not causes:
        return "unnamed"
    if any(set(cause) <= set(truth) for cause in causes):
        return "named" if len(causes) == 1 else "set"
    return "wrong name"
