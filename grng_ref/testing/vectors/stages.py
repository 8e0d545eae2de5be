"""The stages of a computation, in order, and their reference values by this package."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...arrays import namespace
from ...curvature import fisher
from ...directions import regularized_gradient
from .case import NATURAL, Case

# A case with more parameters has no stage of (P, P) or (N, K, P) numbers: the files would be large.
LARGEST_DENSE = 64
KRONECKER = ("kfac", "ekfac", "kronecker_optimal", "tridiagonal_kfac")


class Stage(NamedTuple):
    """One quantity on the way from the inputs to the parameters after some steps."""

    name: str
    formula: str
    source: str
    depends_on: tuple[str, ...]
    shape: str  #: of its arrays, in the letters of the documentation
    invariant: str = ""  #: what of it is compared, where it is unique only up to a symmetry


STAGES: tuple[Stage, ...] = (
    Stage("outputs", "f_n = f(theta, x_n)", "definition", (), "(N, K)"),
    Stage(
        "loss",
        "L = (1/N) sum_n l(f_n, y_n), without terms constant in theta",
        "definition",
        ("outputs",),
        "()",
    ),
    Stage("gradient", "g = grad_theta L", "classical: backpropagation", ("outputs",), "(P,)"),
    Stage("jacobian", "J_n = df_n / dtheta", "classical: the chain rule", ("outputs",), "(N, K, P)"),
    Stage(
        "activations",
        "abar_{l,n} = [c_l a_{l,n}; 1], the input of trainable layer l (no 1 without bias)",
        "definition",
        (),
        "(N, d_in [+ 1]) a layer",
    ),
    Stage(
        "score_signals",
        "D_{l,n} = C_n df_n/ds_l; C_n = S_n^T with S S^T = Om (expected), the gradients of the loss at M "
        "drawn labels over sqrt(M) (monte_carlo), at the label (empirical)",
        "classical: factor of the output Fisher",
        ("outputs",),
        "(N, K', d_out) a layer",
        "D_{l,n}^T D_{l,n}: an orthogonal mix of the K' rows of an example changes nothing else",
    ),
    Stage(
        "score_rows",
        "B: rows (D_{l,n,k} kron abar_{l,n}) / sqrt(N), the layers side by side, example-major",
        "classical: F = B^T B",
        ("activations", "score_signals"),
        "(N K', P)",
        "B_n^T B_n: an orthogonal mix of the K' rows of an example changes nothing else",
    ),
    Stage("fisher", "F = B^T B, a mean over examples", "classical: Amari 1998", ("score_rows",), "(P, P)"),
    Stage(
        "factors",
        "A_l = (1/N) sum abar abar^T, G_l = (1/N) sum D^T D "
        "(kronecker_optimal: the pair nearest to the block)",
        "classical: Martens and Grosse 2015; Van Loan and Pitsianis 1993",
        ("activations", "score_signals"),
        "A (d_in [+ 1])^2 and G (d_out)^2 a layer",
        "G kron A: a number may move between the two",
    ),
    Stage(
        "curvature_product",
        "C v, C the Fisher in the structure of the case, undamped",
        "the structure's definition",
        ("fisher", "factors"),
        "(P,)",
    ),
    Stage(
        "damped_solve",
        "(C + damping I)^{-1} v; factored: ((G + sqrt(a)/pi I) kron (A + pi sqrt(a) I))^{-1} v, "
        "pi^2 = (tr A/dim A)/(tr G/dim G)",
        "classical: Martens and Grosse 2015",
        ("curvature_product",),
        "(P,)",
    ),
    Stage("hvp", "H v, H the Hessian of L", "classical: Pearlmutter 1994", ("gradient",), "(P,)"),
    Stage(
        "regularized_gradient",
        "g + rho H g, the gradient of L + (rho/2) |grad L|^2",
        "gradient-regularized natural gradients: the explicit objective",
        ("hvp",),
        "(P,)",
    ),
    Stage(
        "delta",
        "the step that the optimizer adds to theta at step 0",
        "the optimizer's formula, see the documentation",
        ("gradient", "damped_solve", "regularized_gradient"),
        "(P,)",
    ),
    Stage(
        "parameters",
        "theta after every step, each on its own batch",
        "the optimizer's formula, see the documentation",
        ("delta",),
        "(steps, P)",
    ),
    Stage(
        "belief_mean",
        "the mean of the Kalman belief after every step",
        "classical: Kalman 1960",
        ("delta",),
        "(steps, P)",
    ),
    Stage(
        "belief_covariance",
        "the covariance of the Kalman belief after the last step",
        "classical: Kalman 1960; the structure's projection",
        ("belief_mean",),
        "(P, P)",
    ),
)


def applies(case: Case) -> tuple[str, ...]:
    """The names of the stages that a case has, in order."""
    name, dense = case.optimizer["name"], case.theta.shape[0] <= LARGEST_DENSE
    natural, kalman = name in NATURAL, name == "rkalman"
    wanted = {"outputs", "loss", "gradient", "hvp", "delta", "parameters"}
    if natural or kalman:
        wanted |= {"activations", "score_signals"}
        wanted |= {"jacobian", "score_rows", "fisher"} if dense else set()
    if natural:
        wanted |= {"curvature_product"}
        wanted |= {"damped_solve"} if case.damping else set()
        wanted |= {"factors"} if case.curvature["structure"] in KRONECKER else set()
    if kalman:
        wanted |= {"belief_mean"} | ({"belief_covariance"} if dense else set())
    if name == "reng" or (kalman and case.optimizer["regularization"] == "explicit"):
        wanted.add("regularized_gradient")
    return tuple(stage.name for stage in STAGES if stage.name in wanted)


def reference(case: Case) -> dict[str, Any]:
    """Every expected array of a case, computed by this package from the inputs, in their dtype.

    Parameters
    ----------
    case : Case
        Its inputs may be of any backend and floating dtype.

    Returns
    -------
    dict of str to array
        In the order of the stages; the stages that apply to the case.

    Raises
    ------
    NumericalError
        A step or a solve failed.
    """
    wanted, problem = applies(case), case.problem()
    theta, x, y, v = case.theta, case.x, case.y, case.v
    kind = {"kind": case.curvature["kind"], "samples": case.samples}
    if kind["kind"] != "monte_carlo":
        del kind["samples"]
    found: dict[str, Any] = {
        "outputs": problem.outputs(theta, x),
        "loss": problem.loss(theta, x, y),
        "gradient": problem.gradient(theta, x, y),
        "hvp": problem.hvp(theta, x, y, v),
    }
    if "jacobian" in wanted:
        found["jacobian"] = problem.jacobian(theta, x)
    if "activations" in wanted:
        inputs, signals = problem.layer_factors(theta, x, y, **kind)
        found |= {f"activations.{i}": array for i, array in enumerate(inputs)}
        found |= {f"score_signals.{i}": array for i, array in enumerate(signals)}
    if "score_rows" in wanted:
        found["score_rows"] = problem.score_rows(theta, x, y, **kind)
        found["fisher"] = fisher(problem, theta, x, y, **kind).to_dense()
    if "curvature_product" in wanted:
        found |= _curvature(case, fisher(problem, theta, x, y, structure=case.curvature["structure"], **kind))
    if "regularized_gradient" in wanted:
        found["regularized_gradient"] = regularized_gradient(
            found["gradient"], lambda u: problem.hvp(theta, x, y, u), rho=case.rho or 0.0
        )
    found |= _steps(case)
    return {key: found[key] for name in wanted for key in found if key.split(".")[0] == name}


def _curvature(case: Case, C: Any) -> dict[str, Any]:
    found = {"curvature_product": C @ case.v}
    if case.damping:
        found["damped_solve"] = C.solve(case.v, damping=case.damping, damping_kind=case.damping_kind)
    if case.curvature["structure"] in KRONECKER:
        for index, (A, G) in enumerate(C.factors):
            found |= {f"factors.{index}.A": A, f"factors.{index}.G": G}
    return found


def _steps(case: Case) -> dict[str, Any]:
    """Delta, parameters, and the belief of a Kalman optimizer."""
    xp = namespace(theta=case.theta)
    optimizer, theta = case.build_optimizer(), case.theta
    state = optimizer.init(theta)
    deltas, path, means = [], [], []
    for step in range(case.steps):
        x, y, samples, probes = case.batch(step)
        delta, state, _ = optimizer.update(theta, state, x, y, samples=samples, probes=probes)
        theta = theta + delta
        deltas.append(delta)
        path.append(theta)
        means.append(getattr(state, "mean", theta))
    found = {"delta": deltas[0], "parameters": xp.stack(path)}
    if case.optimizer["name"] == "rkalman":
        found |= {"belief_mean": xp.stack(means), "belief_covariance": state.covariance()}
    return found
