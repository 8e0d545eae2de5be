"""Log-determinants of Kronecker structures near singularity: one rule, that of their solves."""

from __future__ import annotations

import math

import numpy as np
import pytest

import grng_ref as gr

EPS = float(np.finfo(float).eps)
STRUCTURES = ("kfac", "ekfac", "kronecker_optimal")


def known_spectrum(
    inputs: list[float], outputs: list[float], structure: str
) -> tuple[gr.Curvature, np.ndarray]:
    """Factors with these eigenvalues, turned; one example a pair of them, so that G kron A is exact."""
    rng = np.random.default_rng(2)
    Q, P = (np.linalg.qr(rng.standard_normal((len(v),) * 2))[0] for v in (inputs, outputs))
    pairs = [(i, j) for i in range(len(inputs)) for j in range(len(outputs))]
    a = np.stack([math.sqrt(inputs[i]) * Q[:, i] for i, _ in pairs])
    d = np.stack([math.sqrt(outputs[j]) * P[:, [j]].T for _, j in pairs])
    spectrum = np.outer(outputs, inputs).ravel() / len(pairs)
    return gr.curvature((a,), (d,), structure=structure), spectrum


@pytest.mark.parametrize("damping", [0.0, 1e-40, 1e-20, 1e-15, 1e-10, 1e-3])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_two_ill_conditioned_factors_are_definite_at_every_damping(structure, damping):
    """Condition 1e9 each: their product's least eigenvalue, 1e-18 of the largest, is known."""
    inputs, outputs = list(np.geomspace(1.0, 1e-9, 4)), list(np.geomspace(1.0, 1e-9, 3))
    C, spectrum = known_spectrum(inputs, outputs, structure)
    # an eigenvalue of a factor is known to n eps of the largest: 1e-9 to 7 digits; there are 12 products
    limit = 12 * 4 * EPS * 1e9
    assert C.logdet(damping=damping) == pytest.approx(np.sum(np.log(spectrum + damping)), abs=limit)
    result = gr.solve(C, np.ones(12), damping=damping)
    assert result.success
    assert result.rank == 12


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_singular_factor_needs_a_damping_that_is_one(structure):
    C, spectrum = known_spectrum([1.0, 0.5, 0.1, 0.0], [1.0, 0.3, 0.2], structure)
    assert gr.solve(C, C @ np.ones(12), damping=0.0).rank == 9
    for damping in (0.0, 1e-40, 1e-20, 0.1 * EPS * spectrum.max()):
        with pytest.raises(gr.NumericalError, match="not positive definite"):
            C.logdet(damping=damping)
    for damping in (1e-12, 1e-6, 1.0):  # roundoff of the null eigenvalues, over the damping
        limit = 12 * 4 * EPS * spectrum.max() / damping + 12 * 8 * EPS
        assert C.logdet(damping=damping) == pytest.approx(
            np.sum(np.log(spectrum + damping)), rel=0, abs=limit
        )


@pytest.mark.parametrize("structure", [*STRUCTURES, "block_diagonal", "unitwise", "diagonal", "full"])
def test_more_damping_is_never_refused_where_less_is_not(structure):
    rng = np.random.default_rng(3)
    for conditions in (1e3, 1e9, 1e14, 1e17):
        a = rng.standard_normal((6, 3)) * np.geomspace(1.0, conditions**-0.5, 3)
        d = rng.standard_normal((6, 2, 3)) * np.geomspace(1.0, conditions**-0.5, 3)
        C = gr.curvature((a,), (d,), structure=structure)
        accepted = []
        for damping in (0.0, *np.geomspace(1e-40, 1.0, 41)):
            try:
                C.logdet(damping=damping)
            except gr.NumericalError:
                accepted.append(False)
            else:
                accepted.append(True)
        assert accepted == sorted(accepted)
        assert accepted[-1]
