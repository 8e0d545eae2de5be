"""The contract of a curvature operator, and of the structure that builds it."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Protocol

from ..arrays import Array, NumericalError, check_choice, check_finite, check_real, check_shape, namespace
from ..arrays.linalg import norm, quiet
from ..solvers import SolveResult, failure, solve_conjugate_gradient
from ..solvers.result import Apply


class Curvature:
    """A symmetric positive semidefinite operator C (P, P): a Fisher at one theta, in one structure.

    A subclass states ``solvers`` (damping kind -> methods; the first kind is the default) and implements
    ``shape``, ``_template``, ``_product``, ``to_dense``, ``diagonal``, ``_logdet``, ``_auto`` and ``_solve``.
    Checks, statuses and errors are here, once.
    """

    solvers: ClassVar[dict[str, tuple[str, ...]]]

    # --- what a subclass implements ------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        raise NotImplementedError

    @property
    def _template(self) -> Array:
        """Any array of the operator: its library, dtype and device."""
        raise NotImplementedError

    def _product(self, columns: Array) -> Array:
        """``C V`` for V (P, R)."""
        raise NotImplementedError

    def to_dense(self) -> Array:
        """The dense matrix (P, P)."""
        raise NotImplementedError

    def diagonal(self) -> Array:
        """The main diagonal (P,)."""
        raise NotImplementedError

    def _logdet(self, damping: float, damping_kind: str) -> float:
        raise NotImplementedError

    def _auto(self, damping: float, damping_kind: str) -> str:
        """The method that ``"auto"`` stands for."""
        raise NotImplementedError

    def _solve(
        self, v: Array, damping: float, damping_kind: str, method: str, coefficients: Array | None
    ) -> SolveResult:
        raise NotImplementedError

    def _inverse(self, damping: float) -> Apply:
        """``r -> (C + a I)^{-1} r`` for many r, by the default damping kind; a subclass may factor once."""
        kind = self._damping_kind(None)
        method = self._auto(damping, kind)
        return lambda r: self._solve(r, damping, kind, method, None).x

    def _check_coefficients(self, v: Array, coefficients: Array) -> None:
        """Raise a ValueError for a c that cannot be that of v; without rows, only its shape is seen."""
        check_shape("coefficients", coefficients, (None,), "one entry a score row")

    def _terms(self, coefficients: Array | None) -> float:
        """``|B|_F |c|``, the size of the terms of ``v = B^T c``; 0 without c. ``|B|_F^2`` is the trace."""
        return 0.0 if coefficients is None else math.sqrt(float(self.trace())) * norm(coefficients)

    # --- what every curvature has --------------------------------------------------------------------

    @property
    def dtype(self) -> Any:
        """Dtype of the operator's arrays."""
        return self._template.dtype

    def __matmul__(self, v: Array) -> Array:
        """``C v`` for v (P,) or (P, R)."""
        xp = namespace(curvature=self._template, v=v)
        if v.ndim == 2:
            check_shape("v", v, (self.shape[0], None), "(parameters, columns)")
            check_finite(v=v)
            return self._product(v)
        check_shape("v", v, (self.shape[0],), "one entry a parameter")
        check_finite(v=v)
        return xp.reshape(self._product(v[:, None]), (-1,))

    def matvec(self, v: Array) -> Array:
        """``C v`` for v (P,), so that ``scipy.sparse.linalg`` takes the operator on NumPy arrays."""
        return self @ v

    def trace(self) -> Array:
        """The trace, 0-d."""
        return namespace(curvature=self._template).sum(self.diagonal())

    def logdet(self, *, damping: float, damping_kind: str | None = None) -> float:
        """``log det`` of the damped operator (``C + damping I`` for exact damping).

        Raises
        ------
        NumericalError
            The damped operator is numerically singular.
        """
        a = check_real("damping", damping, minimum=0.0)
        return self._logdet(a, self._damping_kind(damping_kind))

    def solve(
        self,
        v: Array,
        *,
        damping: float,
        damping_kind: str | None = None,
        method: str = "auto",
        coefficients: Array | None = None,
        preconditioner: Curvature | None = None,
    ) -> Array:
        """``(C + damping I)^{-1} v`` (P,), or an error; see `solve` for the arguments and the result.

        Raises
        ------
        NumericalError
            The solve failed; carries the SolveResult.
        """
        result = solve(
            self,
            v,
            damping=damping,
            damping_kind=damping_kind,
            method=method,
            coefficients=coefficients,
            preconditioner=preconditioner,
        )
        raise_on_failure(result, damping)
        return result.x

    def _damping_kind(self, kind: str | None) -> str:
        if kind is None:
            return next(iter(self.solvers))
        return check_choice("damping_kind", kind, self.solvers)


class Structure(Protocol):
    """A factory of curvatures, from arrays of any architecture.

    ``average`` is needed by the optimizers' moving averages (``ema``) only; a factory without it works
    everywhere else.
    """

    def build(self, activations: tuple[Array, ...], score_signals: tuple[Array, ...]) -> Curvature:
        """The curvature from layer inputs (N, d_in[+1]) and score signals (N, K', d_out)."""

    def average(self, old: Any, new: Any, weight: float) -> Curvature:
        """``(1 - weight) old + weight new`` of what the curvatures hold; weight in [0, 1].

        Averaged are the *factors*, where the curvature is a function of factors that is not linear (the
        average of Kronecker products is none); else the matrix. ``old`` is one that this factory built or
        averaged, ``new`` one that it built.
        """


def solve(
    curvature: Curvature,
    v: Array,
    *,
    damping: float,
    damping_kind: str | None = None,
    method: str = "auto",
    coefficients: Array | None = None,
    preconditioner: Curvature | None = None,
) -> SolveResult:
    """Solve ``(C + damping I) x = v`` and say how well; failed numerics are a status, not an error.

    Parameters
    ----------
    curvature : Curvature
    v : array (P,)
    damping : float
        a >= 0, added to the mean-normalised curvature. At 0 the Gram and eigenbasis methods give the
        minimum-norm solution.
    damping_kind : {None, "exact", "factored"}
        ``None``: exact where the structure has it. ``"factored"`` (Kronecker structures):
        ``(G + sqrt(a)/pi I) kron (A + pi sqrt(a) I)``, ``pi^2 = (tr A/dim A)/(tr G/dim G)``.
    method : {"auto", "cholesky", "gram", "cg", "eigh", "newton_schulz"}
        What the structure has; the result names what ran. ``"auto"`` chooses by cost, and takes the
        eigenbasis where Cholesky finds the damped matrix singular.
    coefficients : array (rows,), optional
        c with ``v = B^T c``, where known: the Gram form solves from it, and every method allows for the
        roundoff ``n eps |B|_F |c|`` that v was summed with. The full Fisher checks it. The other structures
        keep no score rows and **trust** it: with a c that is too large they call v roundoff, and
        "converged" says nothing.
    preconditioner : Curvature, optional
        Of any structure, of the same size; for ``method="cg"`` and a > 0. Its own damped solve is the
        preconditioner.

    Raises
    ------
    TypeError, ValueError
        Bad arguments; a method or damping kind that the structure does not have (the message lists them);
        coefficients that the structure can see are not those of v.
    """
    if not isinstance(curvature, Curvature):
        raise TypeError(
            f"curvature must be a Curvature, as gr.fisher returns, got {type(curvature).__name__}"
        )
    xp = namespace(curvature=curvature._template, v=v, coefficients=coefficients)
    check_shape("v", v, (curvature.shape[0],), "one entry a parameter")
    check_finite(v=v, coefficients=coefficients)
    if coefficients is not None:
        curvature._check_coefficients(v, coefficients)
    a = check_real("damping", damping, minimum=0.0)
    kind = curvature._damping_kind(damping_kind)
    check_choice("method", method, ("auto", *curvature.solvers[kind]))
    chosen = curvature._auto(a, kind) if method == "auto" else method
    _check_preconditioner(preconditioner, chosen, a, curvature)
    try:
        with quiet():
            if chosen == "cg":
                return solve_conjugate_gradient(
                    lambda x: curvature._product(x[:, None])[:, 0] + a * x,
                    v,
                    precondition=None if preconditioner is None else preconditioner._inverse(a),
                    terms=curvature._terms(coefficients),
                    singular=a == 0.0,
                )
            result = curvature._solve(v, a, kind, chosen, coefficients)
            failed = result.status == "not_positive_definite" and chosen == "cholesky"
            if failed and method == "auto" and "eigh" in curvature.solvers[kind]:
                # The damping is below a singular matrix's roundoff, as RING's is near a stationary point.
                chosen = "eigh"
                result = curvature._solve(v, a, kind, chosen, coefficients)
        return result
    except NumericalError:  # an overflow on the way, where not even a factorization can start
        return failure(xp.zeros_like(v), "not_finite", chosen)


def _check_preconditioner(preconditioner: Any, method: str, damping: float, curvature: Curvature) -> None:
    if preconditioner is None:
        return
    if not isinstance(preconditioner, Curvature):
        got = type(preconditioner).__name__
        raise TypeError(f"preconditioner must be a Curvature, as gr.fisher returns, got {got}")
    if method != "cg":
        raise ValueError(f"preconditioner belongs to method='cg', got method={method!r}")
    if damping == 0.0:
        raise ValueError(
            "preconditioner needs a damping > 0, got 0: the minimum-norm solution is found without one"
        )
    if preconditioner.shape != curvature.shape:
        raise ValueError(f"preconditioner must have shape {curvature.shape}, got {preconditioner.shape}")
    namespace(curvature=curvature._template, preconditioner=preconditioner._template)


def raise_on_failure(result: SolveResult, damping: float) -> None:
    """Raise a NumericalError that explains a failed solve and carries it; do nothing for a good one."""
    if result.success:
        return
    advice = {
        "not_positive_definite": "the damped matrix is not positive definite: raise the damping; at "
        "damping 0, method='eigh' gives the minimum-norm solution",
        "outside_range": "at damping 0 the right-hand side must lie in the range of the curvature: use a "
        "positive damping",
        "stagnated": "the matrix is too ill-conditioned for this dtype: raise the damping or use float64",
        "inaccurate": "the scaled residual stayed above 30: raise the damping or use float64",
        "not_finite": "an intermediate result overflowed: rescale the problem",
    }[result.status]
    raise NumericalError(
        f"solve failed: {result.status} (method {result.method}, damping {damping:g}, scaled residual "
        f"{result.residual:.3g}); {advice}",
        result,
    )
