"""The two error kinds that Python does not have: a missing backend, and numerics that failed."""

from __future__ import annotations

from typing import Any


class BackendError(RuntimeError):
    """An array backend cannot do what was asked.

    Raised when a backend is not installed, has no usable device, or would silently give another
    precision than the one asked for. The message says which, and how to go on.
    """


class NumericalError(ArithmeticError):
    """A computation failed numerically: not positive definite, stagnated, overflowed, inconsistent.

    Attributes
    ----------
    result : object or None
        What was computed up to the failure (a `SolveResult`, a `StepInfo`, ...), for diagnosis.
        It is never a valid answer.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:  # keep `result` when a worker process sends the error back
        return type(self), (str(self), self.result)
