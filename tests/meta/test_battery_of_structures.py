"""The contract battery of structures must catch what is planted here, and name the property violated."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from grng_ref.curvature import (
    EKFAC,
    DiagonalStructure,
    EKFACStructure,
    FullFisher,
    FullStructure,
    KFACStructure,
    KroneckerFactored,
    OptimalKroneckerStructure,
)
from grng_ref.testing import check_curvature, curvatures

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Planted:
    """A structure that builds another class of curvature from the rows of the full Fisher."""

    curvature: type

    def build(self, activations, score_signals):
        return self.curvature(FullStructure().build(activations, score_signals).rows)


@dataclass(frozen=True)
class Altered:
    """The full Fisher of altered inputs."""

    alter: Any

    def build(self, activations, score_signals):
        return FullStructure().build(*self.alter(activations, score_signals))


@dataclass(frozen=True)
class PlantedKFAC:
    """A structure that builds another class of curvature from the factors of K-FAC."""

    curvature: type

    def build(self, activations, score_signals):
        return self.curvature(KFACStructure().build(activations, score_signals).factors)


def sum_over_examples(activations, signals):
    return activations, tuple(math.sqrt(len(d)) * d for d in signals)


def mean_over_columns(activations, signals):
    return activations, tuple(d / math.sqrt(d.shape[1]) for d in signals)


def sqrt_of_signals(activations, signals):
    return activations, tuple(np.sign(d) * np.sqrt(np.abs(d)) for d in signals)


def later_examples_count_more(activations, signals):
    return activations, tuple(d * np.linspace(1.0, 2.0, len(d))[:, None, None] for d in signals)


def in_place(activations, signals):
    signals[0][...] /= 2.0
    return activations, signals


class DampingTwice(FullFisher):
    def _solve(self, v, damping, *rest):
        return super()._solve(v, 2.0 * damping, *rest)


class FirstDampingForEver(FullFisher):
    """Keeps the factorization of the first solve."""

    def _solve(self, v, damping, *rest):
        if "kept" not in vars(self):
            object.__setattr__(self, "kept", damping)
        return super()._solve(v, self.kept, *rest)


class DropsTheNullSpace(FullFisher):
    """Inverts the eigenvalues that are not zero, and forgets the part v_perp / a."""

    def _solve(self, v, damping, kind, method, coefficients):
        result = super()._solve(v, damping, kind, method, coefficients)
        values, vectors = np.linalg.eigh(self.to_dense())
        kept = vectors[:, values > 1e-10 * values[-1]]
        return replace(result, x=kept @ (kept.T @ result.x))


class ProductsDamped(FullFisher):
    def _product(self, columns):
        return super()._product(columns) + 0.1 * columns


class ClippedProducts(FullFisher):
    """A clipping that is not in any info."""

    def _product(self, columns):
        return np.clip(super()._product(columns), -1e6, 1e6)


class PromotingMatrix(FullFisher):
    def to_dense(self):
        return super().to_dense().astype(np.float64)


class Asymmetric(FullFisher):
    def to_dense(self):
        return super().to_dense() + 1e-9 * np.triu(np.ones(self.shape))


class Indefinite(FullFisher):
    def to_dense(self):
        return super().to_dense() - np.eye(self.shape[0])


class MeanEigenvalue(FullFisher):
    def trace(self):
        return super().trace() / self.shape[0]


class Overconfident(FullFisher):
    """A multiple of v, and a result that says it converged."""

    def _solve(self, v, damping, *rest):
        good = super()._solve(v, damping, *rest)
        return replace(good, x=v / (damping + float(self.trace())))


class LeastSquaresAtZero(FullFisher):
    """Answers at damping 0 although v is outside the range."""

    def _solve(self, v, damping, *rest):
        result = super()._solve(v, damping, *rest)
        if damping == 0.0 and not result.success:
            result = replace(result, x=np.linalg.pinv(self.to_dense()) @ v, status="converged")
        return result


class CoefficientsForTheAnswer(FullFisher):
    """Takes ``B^T c``, which is v, for the solution."""

    def _solve(self, v, damping, kind, method, coefficients):
        result = super()._solve(v, damping, kind, method, coefficients)
        return result if coefficients is None else replace(result, x=self.rows.rmatvec(coefficients))


class LogdetWithoutDamping(FullFisher):
    def _logdet(self, damping, damping_kind):
        return super()._logdet(2.0 * damping, damping_kind)


class TakesTheSizeOfTheDamping(FullFisher):
    def solve(self, v, *, damping, **options):
        return super().solve(v, damping=abs(damping), **options)


class UnknownMethodsAreAuto(FullFisher):
    def solve(self, v, *, method="auto", **options):
        return super().solve(v, method=method if method in self.solvers["exact"] else "auto", **options)


class StartsFromChance(FullFisher):
    """An iteration whose last digits depend on an unseeded start."""

    stream = np.random.default_rng(0)

    def _solve(self, v, damping, *rest):
        result = super()._solve(v, damping, *rest)
        return replace(result, x=result.x * (1.0 + 1e-15 * self.stream.standard_normal()))


class NewtonSchulzStoppedEarly(FullFisher):
    def _solve(self, v, damping, kind, method, coefficients):
        result = super()._solve(v, damping, kind, method, coefficients)
        return replace(result, x=result.x * (1.0 + 1e-6)) if method == "newton_schulz" else result


class TransposedFactors(KroneckerFactored):
    """A (x) G in place of G (x) A, everywhere alike: right for square layers."""

    def __init__(self, factors):
        super().__init__(tuple((G, A) for A, G in factors))


class TransposedEigenbasis(KroneckerFactored):
    """A dense matrix with the factors exchanged, beside right products."""

    def to_dense(self):
        return TransposedFactors(self.factors).to_dense()


class FactoredWithoutPi(KroneckerFactored):
    """``(G + sqrt(a) I) kron (A + sqrt(a) I)``: right where the factors' mean eigenvalues agree."""

    def _solve(self, v, damping, damping_kind, method, coefficients):
        if damping_kind == "exact":
            return super()._solve(v, damping, damping_kind, method, coefficients)
        root = math.sqrt(damping)
        shifted = tuple((A + root * np.eye(len(A)), G + root * np.eye(len(G))) for A, G in self.factors)
        return KroneckerFactored(shifted)._solve(v, 0.0, damping_kind, method, coefficients)


class WeightOfTheOld(KFACStructure):
    """The weight taken for that of the old curvature: an average that forgets nothing."""

    def average(self, old, new, weight):
        return super().average(old, new, 1.0 - weight)


class KeepsTheOldInputs(KFACStructure):
    def average(self, old, new, weight):
        mixed = super().average(old, new, weight)
        return KroneckerFactored(
            tuple((A, G) for (A, _), (_, G) in zip(old.factors, mixed.factors, strict=True))
        )


class AveragesTheProduct(KFACStructure):
    """The weight split between the factors, as if the product were what is averaged."""

    def average(self, old, new, weight):
        pairs = zip(old.factors, new.factors, strict=True)
        blend = tuple(
            (A ** (1 - weight) * B**weight, (1 - weight) * G + weight * H) for (A, G), (B, H) in pairs
        )
        return KroneckerFactored(blend)


class AveragesRoots(DiagonalStructure):
    """Averages of square roots, squared: the right ends."""

    def average(self, old, new, weight):
        values = ((1.0 - weight) * np.sqrt(old.values) + weight * np.sqrt(new.values)) ** 2
        return type(new)(values)


class KeepsTheOldBasis(EKFACStructure):
    def average(self, old, new, weight):
        layers = []
        for one, other in zip(old.layers, new.layers, strict=True):
            moved = other.moments_in(one.a_basis, one.g_basis)
            layers.append(replace(one, moments=(1.0 - weight) * one.moments + weight * moved))
        return EKFAC(tuple(layers), super().average(old, new, weight).factors)


class AddsInPlace(OptimalKroneckerStructure):
    def average(self, old, new, weight):
        for (A, G), (B, H) in zip(old.factors, new.factors, strict=True):
            A += weight * (B - A)
            G += weight * (H - G)
        return old


STRUCTURE_MUTANTS = [
    (Altered(sum_over_examples), "mean_over_examples"),
    (Altered(mean_over_columns), "sum_over_factor_columns"),
    (Altered(sqrt_of_signals), "quadratic_in_the_signals"),
    (Altered(later_examples_count_more), "order_of_examples_does_not_matter"),
    (Altered(in_place), "arguments_are_left_alone"),
    (Planted(DampingTwice), "damping_is_added_once"),
    (Planted(FirstDampingForEver), "damping_is_added_once"),
    (Planted(DropsTheNullSpace), "null_space_is_kept"),
    (Planted(ProductsDamped), "products_are_those_of_the_dense_matrix"),
    (Planted(ClippedProducts), "products_are_linear"),
    (Planted(PromotingMatrix), "results_have_the_kind_of_the_arguments"),
    (Planted(Asymmetric), "dense_matrix_is_symmetric_psd"),
    (Planted(Indefinite), "dense_matrix_is_symmetric_psd"),
    (Planted(MeanEigenvalue), "diagonal_and_trace_are_those_of_the_matrix"),
    (Planted(Overconfident), "solves_invert_the_damped_matrix"),
    (Planted(LeastSquaresAtZero), "zero_damping_is_minimum_norm_or_an_error"),
    (Planted(CoefficientsForTheAnswer), "coefficients_do_not_change_the_solution"),
    (Planted(LogdetWithoutDamping), "logdet_is_that_of_the_damped_matrix"),
    (Planted(TakesTheSizeOfTheDamping), "bad_arguments_are_refused"),
    (Planted(UnknownMethodsAreAuto), "bad_arguments_are_refused"),
    (Planted(StartsFromChance), "results_are_repeatable"),
    (Planted(NewtonSchulzStoppedEarly), "methods_agree"),
    (WeightOfTheOld(), "average_is_that_of_the_factors"),
    (KeepsTheOldInputs(), "average_is_linear_in_each_factor"),
    (AveragesTheProduct(), "average_is_linear_in_each_factor"),
    (AveragesRoots(), "average_is_that_of_the_factors"),
    (KeepsTheOldBasis(), "average_is_that_of_the_factors"),
    (AddsInPlace(), "average_is_that_of_the_factors"),
    (PlantedKFAC(TransposedFactors), "one_example_is_exact"),
    (PlantedKFAC(TransposedEigenbasis), "products_are_those_of_the_dense_matrix"),
    (PlantedKFAC(FactoredWithoutPi), "factored_damping_is_that_of_the_factors"),
]


def structure_id(value):
    inner = getattr(value, "curvature", None) or getattr(value, "alter", None)
    return getattr(inner, "__name__", None if isinstance(value, str) else type(value).__name__)


@pytest.mark.parametrize(("mutant", "property_"), STRUCTURE_MUTANTS, ids=structure_id)
def test_mutated_structure_is_caught(caught, mutant, property_):
    dtype = "float32" if structure_id(mutant) == "PromotingMatrix" else "float64"
    assert property_ in caught(check_curvature, mutant, dtype=dtype)


def test_the_scale_of_one_example_is_asked_of_those_who_claim_it(caught):
    halved = Altered(lambda activations, signals: (activations, tuple(0.5 * d for d in signals)))
    assert caught(check_curvature, halved) == {"one_example_is_exact"}
    check_curvature(halved, exact_for_one_example=False)


def test_every_property_has_a_mutant():
    assert {p.__name__ for p in curvatures.PROPERTIES} == {property_ for _, property_ in STRUCTURE_MUTANTS}
