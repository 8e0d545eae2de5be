"""What the four contract batteries have in common; their mutants are in the files beside this one."""

from __future__ import annotations

import inspect
import re

import pytest

import grng_ref as gr
from grng_ref.testing import (
    beliefs,
    check_belief,
    check_curvature,
    check_likelihood,
    check_optimizer,
    curvatures,
    likelihoods,
    optimizers,
)


@pytest.mark.parametrize(("method", "place"), [("hessian", "results_are_repeatable"), ("sample", "sample")])
def test_a_foreign_error_is_a_violation_that_names_its_place(method, place):
    def broken(*arguments, **options):
        raise KeyError("lost")

    with pytest.raises(AssertionError, match=rf"{place}: KeyError: 'lost'"):
        check_likelihood(type("Broken", (gr.Gaussian,), {method: broken})())


@pytest.mark.parametrize(
    ("check", "module"),
    [
        (check_likelihood, likelihoods),
        (check_curvature, curvatures),
        (check_optimizer, optimizers),
        (check_belief, beliefs),
    ],
)
def test_the_table_in_the_docstring_is_what_is_checked(check, module):
    # `getdoc`: from 3.13 on the compiler takes the indentation off already
    rows = re.findall(r"^([a-z_]+) {2,}(\S.*)$", inspect.getdoc(check), flags=re.MULTILINE)
    stated = {name: text.rstrip(".").lower() for name, text in rows if name != "property"}
    done = {p.__name__: p.__doc__.rstrip(".").lower() for p in module.PROPERTIES}
    assert stated == done
