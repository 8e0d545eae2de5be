"""Small adapters and result files of one shipped case, for the tests of the checker."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from grng_ref.testing import check
from grng_ref.testing.vectors import load_cases

CASES = {case.id: case for case in load_cases()}
ONE = CASES["one-layer"]


class Right:
    """The expected values of one case, as the object of a careful user."""

    def gradient(self, case):
        return np.array(ONE.expected["gradient"])


def giving(result, stage="gradient", **attributes):
    """An adapter that gives a result, or calls it with the case."""
    method = result if callable(result) else lambda case: result
    return SimpleNamespace(**{stage: method}, **attributes)


def only(adapter, case=ONE, stage=None, **options):
    (one,) = check(adapter, [case], stages=stage and [stage], diagnose=False, **options).checks
    return one


def written(folder, name="one-layer.npz", **arrays):
    np.savez(folder / name, **(arrays or {"gradient": ONE.expected["gradient"]}))
    return folder
