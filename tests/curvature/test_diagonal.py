"""The diagonal Fisher: the exact diagonal of the full one."""

from __future__ import annotations

import numpy as np
import pytest
from dense_structures import (
    DAMPING,
    KINDS,
    NETWORKS,
    allowed,
    assert_operator,
    assert_solves,
    case,
    drawn_batch,
    exact,
    kfac,
    with_dead_units,
)

import grng_ref as gr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_it_is_the_diagonal_of_the_full_fisher(network, kind):
    C, batch = case(network, kind, "diagonal")
    dense, rtol = np.diag(np.diag(batch.fisher)), allowed(batch)
    assert_operator(C, dense, rtol=rtol)
    for method in ("auto", "eigh"):
        assert_solves(C, exact(dense), rtol=rtol, method=method)


def test_every_entry_has_its_own_digits():
    """Sums of squares cancel nothing: entries 1e-20 of the largest are right to roundoff, and so is v / d."""
    batch = drawn_batch([(3, 4)], num_examples=6, columns=2)
    scales = 10.0 ** -np.arange(0, 12, 3)
    batch.signals[0][...] *= scales
    C = batch.build("diagonal")
    expected = np.diag(batch.fisher)
    np.testing.assert_allclose(C.diagonal(), expected, rtol=allowed(batch))
    x = C.solve(np.ones(12), damping=0.0)
    np.testing.assert_allclose(x, 1.0 / expected, rtol=allowed(batch))


def test_dead_units():
    batch = with_dead_units(drawn_batch([(4, 3), (3, 2)], num_examples=9, columns=2))
    C = batch.build("diagonal")
    dense = np.diag(np.diag(batch.fisher))
    assert_operator(C, dense, rtol=allowed(batch))
    assert_solves(C, exact(dense), rtol=allowed(batch))
    assert gr.solve(C, np.ones(C.shape[0]), damping=0.0).status == "outside_range"
    found = gr.solve(C, dense @ np.ones(C.shape[0]), damping=0.0)
    assert found.success
    np.testing.assert_allclose(found.x, 1.0 * (np.diag(dense) > 0.0), rtol=allowed(batch))
    assert found.rank == np.count_nonzero(np.diag(dense))
    with pytest.raises(gr.NumericalError):
        C.logdet(damping=0.0)


def test_planted_errors_are_caught():
    """K-FAC's diagonal; squares of the mean in place of the mean of squares; damping twice."""
    batch = drawn_batch([(4, 3), (3, 2)], num_examples=7, columns=2)
    C, rtol = batch.build("diagonal"), allowed(batch)
    dense = np.diag(np.diag(batch.fisher))
    assert_operator(C, dense, rtol=rtol)
    pairs = zip(batch.activations, batch.signals, strict=True)
    mean = np.concatenate([np.outer(d.mean(axis=(0, 1)), a.mean(axis=0)).ravel() for a, d in pairs])
    for wrong in (np.diag(np.diag(kfac(batch))), np.diag(mean**2)):
        with pytest.raises(AssertionError):
            assert_operator(C, wrong, rtol=rtol)
    with pytest.raises(AssertionError):
        assert_solves(C, exact(dense, 2 * DAMPING), rtol=rtol)
