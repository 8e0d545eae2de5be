"""How far one step is from a reference step."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..arrays import Array, NumericalError, check_finite, check_real, check_shape, namespace
from ..arrays.linalg import norm
from ..curvature import Curvature


class Comparison(NamedTuple):
    """Measures of a step against a reference; None where a measure is undefined or not asked for."""

    relative_error: float  #: ``|delta - reference| / |reference|``
    cosine: float | None  #: None for a zero step
    pearson: float | None  #: correlation over the entries; None for a constant step
    decrease_ratio: float | None  #: predicted decrease of delta over that of the reference


def compare(
    delta: Array,
    reference: Array,
    *,
    gradient: Array | None = None,
    curvature: Curvature | None = None,
    damping: float = 0.0,
) -> Comparison:
    """Compare a step with a reference step: relative error, cosine, Pearson correlation, decrease ratio.

    The decrease ratio is ``m(delta) / m(reference)`` for the quadratic model
    ``m(d) = -(g . d + d . (C + damping I) d / 2)``; it needs ``gradient`` and ``curvature``.

    Parameters
    ----------
    delta, reference : array (P,)
    gradient : array (P,), optional
        Gradient of the mean loss where the steps start.
    curvature : Curvature, optional
        C, for example the full Fisher.
    damping : float
        Exact damping of the model. Not for a curvature without it: give its own damped operator
        (``curvature.damped(a)`` of block-tridiagonal K-FAC) with damping 0.

    Raises
    ------
    TypeError, ValueError
        Bad arguments; a zero reference, of which nothing is a multiple.
    """
    namespace(delta=delta, reference=reference, gradient=gradient)
    check_shape("delta", delta, (None,), "one entry a parameter")
    check_shape("reference", reference, tuple(delta.shape), "that of delta")
    check_finite(delta=delta, reference=reference, gradient=gradient)
    damping = check_real("damping", damping, minimum=0.0)
    if (gradient is None) != (curvature is None):
        given = "gradient" if curvature is None else "curvature"
        raise ValueError(
            f"gradient and curvature must be given together for the decrease ratio, got only {given}"
        )
    length = norm(reference)
    if length == 0.0:
        raise ValueError("reference must not be zero: a relative error of it is undefined")

    ratio = None
    if gradient is not None and curvature is not None:
        check_shape("gradient", gradient, tuple(delta.shape), "that of delta")
        if not isinstance(curvature, Curvature):
            raise TypeError(f"curvature must be a Curvature, got {type(curvature).__name__}")
        if curvature.shape[0] != delta.shape[0]:
            raise ValueError(
                f"curvature must have shape {tuple(delta.shape) * 2} for this delta, got {curvature.shape}"
            )
        if damping > 0.0 and "exact" not in curvature.solvers:
            raise ValueError(
                f"damping must be 0 for {type(curvature).__name__}, which has no exact damping, got "
                f"{damping}; give curvature its damped operator, such as C.damped(a)"
            )
        scales = length, max(norm(gradient), length)
        expected = _predicted_decrease(reference, gradient, curvature, damping, scales)
        achieved = _predicted_decrease(delta, gradient, curvature, damping, scales)
        ratio = achieved / expected if expected != 0.0 else None
        if ratio is not None and not math.isfinite(ratio):
            raise NumericalError(f"the decrease ratio overflowed: decreases {achieved:g} and {expected:g}")
    return Comparison(
        relative_error=norm(delta - reference) / length,
        cosine=_cosine(delta, reference),
        pearson=_cosine(_centred(delta), _centred(reference)),
        decrease_ratio=ratio,
    )


def _centred(a: Array) -> Array:
    """The deviations from the mean; zero, exactly, where all entries are equal."""
    xp = namespace(a=a)
    return 0.0 * a if bool(xp.all(a == a[0])) else a - xp.mean(a)


def _cosine(a: Array, b: Array) -> float | None:
    lengths = norm(a), norm(b)
    if 0.0 in lengths:
        return None
    return float(namespace(a=a).sum((a / lengths[0]) * (b / lengths[1])))


def _predicted_decrease(
    step: Array, gradient: Array, curvature: Curvature, damping: float, scales: tuple[float, float]
) -> float:
    """The decrease over the product of two scales, of steps and of gradients.

    Step and gradient enter as unit vectors: products of small entries would underflow in the arrays' dtype.
    """
    xp = namespace(step=step)
    lengths = norm(step), norm(gradient)
    unit, slope = step / (lengths[0] or 1.0), gradient / (lengths[1] or 1.0)
    linear = float(xp.sum(unit * slope))
    quadratic = float(xp.sum(unit * (curvature @ unit))) + damping * float(xp.sum(unit * unit))
    size = lengths[0] / scales[0]
    return -size * (lengths[1] / scales[1] * linear + 0.5 * size * (scales[0] / scales[1]) * quadratic)
