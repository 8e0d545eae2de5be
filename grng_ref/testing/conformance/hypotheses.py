"""The table of named causes: each a change of the replay, with the sentence that names it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .layouts import LAYOUTS
from .view import SCALES


@dataclass(frozen=True)
class Hypothesis:
    """A cause: the changes of the replay that it stands for, and how to say it."""

    id: str
    sentence: str
    knobs: Mapping[str, Any]
    convention: bool = False  #: another convention, not an error by itself
    factor: str = "1"  #: the number of N and K that it brings in: a name in `SCALES`

    def with_constant(self, sizes: Collection[tuple[int, int]]) -> Hypothesis | None:
        """The same with a constant, where its factor of N or K has one value over the sizes (N, K).

        None where it has several, or is a constant anyway: then there is nothing that is not told apart.
        """
        values = {SCALES[self.factor](n, k) for n, k in sizes}
        if not any(letter in self.factor for letter in "NK") or len(values) != 1:
            return None
        constant = f"{values.pop():.4g}"
        sentence = f"{self.sentence}, or the constant {constant} stands for {self.factor}"
        return replace(self, id=f"{self.id}-as-constant", sentence=sentence, convention=False)


def _slug(words: str) -> str:
    return words.replace(", ", "-").replace(" ", "-").replace("_", "-")


def _family(
    prefix: str, sentence: str, knob: str, ways: Mapping[str, str], factors: Mapping[str, str] | None = None
) -> Iterator[Hypothesis]:
    """One hypothesis for every value of a knob; the words of the value go into the sentence."""
    for how, words in ways.items():
        factor = (factors or {}).get(how, "1")
        yield Hypothesis(f"{prefix}-{_slug(how)}", sentence.format(words), {knob: how}, False, factor)


def _everywhere(factor: str, **more: str) -> dict[str, str]:
    """The loss and its derivatives scaled, and what else is named: ``fisher="N"``."""
    names = {"loss": factor, "gradient": factor, "hessian": factor, **more}
    return {f"{name}.scale": value for name, value in names.items()}


def _reductions() -> Iterator[Hypothesis]:
    def add(id: str, sentence: str, factor: str, knobs: Mapping[str, Any]) -> Hypothesis:
        return Hypothesis(id, sentence, knobs, True, factor)

    gaussian = {"only": "Gaussian"}
    yield add(
        "loss-sum", "loss and its derivatives are sums over the examples, not means", "N", _everywhere("N")
    )
    yield add(
        "reduction-sum",
        "loss, derivatives and Fisher are sums over the examples, not means",
        "N",
        _everywhere("N", fisher="N"),
    )
    yield add(
        "loss-mean-outputs",
        "loss and its derivatives are means over the outputs too (1/K)",
        "1/K",
        _everywhere("1/K"),
    )
    yield add(
        "reduction-mean-outputs",
        "loss, derivatives and Fisher are means over the outputs too (1/K)",
        "1/K",
        _everywhere("1/K", fisher="1/K", rows="1/K"),
    )
    yield add(
        "mse-mean-outputs",
        "squared error without 1/2, mean over the outputs too (2/K), Fisher with it",
        "2/K",
        _everywhere("2/K", fisher="2/K", rows="2/K") | gaussian,
    )
    yield add(
        "squared-error-whole",
        "the squared error lacks its 1/2 (loss and derivatives doubled)",
        "2",
        _everywhere("2") | gaussian,
    )
    yield add(
        "squared-error-whole-rows",
        "the squared error lacks its 1/2, in sampled and observed scores too",
        "2",
        _everywhere("2", rows="2") | gaussian,
    )
    yield add(
        "squared-error-whole-fisher",
        "the squared error lacks its 1/2, in every Fisher too",
        "2",
        _everywhere("2", fisher="2", rows="2") | gaussian,
    )


def _scales() -> Iterator[Hypothesis]:
    quantities = {
        "loss": "the loss is",
        "gradient": "the gradient is",
        "hessian": "the Hessian product is",
        "fisher": "the Fisher is",
        "A": "the factor A is",
        "G": "the factor G is",
        "derivatives": "gradient and Hessian are",
    }
    for quantity, words in quantities.items():
        scaled = ("gradient", "hessian") if quantity == "derivatives" else (quantity,)
        should = "they" if quantity == "derivatives" else "it"
        for factor in SCALES:
            if factor == "1" or (factor == "-1" and quantity in ("fisher", "A", "G")):
                continue
            yield Hypothesis(
                f"{quantity}-times-{_slug(factor)}",
                f"{words} {factor} times what {should} should be",
                {f"{name}.scale": factor for name in scaled},
                factor in ("N", "1/K") and quantity == "fisher",
                factor,
            )


STAGES_ALONE = (
    *("gradient", "fisher", "curvature_product", "damped_solve", "hvp", "regularized_gradient", "delta"),
    "belief_covariance",
)


def _single_stages() -> Iterator[Hypothesis]:
    for stage in STAGES_ALONE:
        for factor in ("N", "1/N", "2", "1/2", "K", "1/K", "-1"):
            yield Hypothesis(
                f"{stage}-alone-times-{factor}",
                f"{stage} alone is {factor} times what it should be",
                {"stage.scale": {stage: factor}},
                factor=factor,
            )
    for stage in ("jacobian", "fisher", "factors"):
        yield Hypothesis(f"{stage}-transposed", f"{stage} is transposed", {"stage.transposed": stage})


# Changes of one knob to one value: id, sentence, knob, value.
_ALONE: tuple[tuple[str, str, str, Any], ...] = (
    ("bias-missing", "the network ignores its biases", "bias", "missing"),
    ("bias-derivatives-missing", "all derivatives by the biases are left out", "bias", "derivatives missing"),
    ("bias-gradient-missing", "the gradient of the biases is left out", "bias", "gradient missing"),
    ("activations-without-ones", "the layer inputs lack the 1 of the bias", "activations", "no ones"),
    ("scale-missing", "the scale c of the layer inputs is left out", "layer_scale", lambda c: 1.0),
    ("scale-squared", "the scale c of the layer inputs is applied twice", "layer_scale", lambda c: c * c),
    ("variance-ignored", "the variance of the Gaussian likelihood is not used", "variance", lambda s: 1.0),
    ("variance-as-deviation", "the standard deviation is taken for the variance", "variance",
     lambda s: s**0.5),
    ("variance-squared", "the square of the variance is taken for the variance", "variance", lambda s: s**2),
    ("saturation-subtracted", "p - y and log-sum-exp by subtraction lose the digits of saturated outputs",
     "saturation", "subtracted"),
    ("output-fisher-identity", "the output Fisher is taken as the identity", "output_fisher", "identity"),
    ("output-fisher-diagonal", "cross terms between outputs are missing (diagonal of the output Fisher)",
     "output_fisher", "diagonal"),
    ("output-fisher-without-pp", "the term p p^T of the softmax Fisher is missing", "output_fisher",
     "no outer product"),
    ("class-dropped", "one class of the softmax is dropped", "output_fisher", "class dropped"),
    ("fisher-of-mean-gradient", "the Fisher is the outer product of the mean gradient", "rows",
     "mean gradient"),
    ("output-rows-summed", "the score rows of an example are summed before they are squared", "rows",
     "outputs summed"),
    ("draws-summed", "Monte-Carlo draws are summed, not averaged", "mc", "draws summed"),
    ("kronecker-A-G", "A kron G is used where G kron A is meant", "kron", "AG"),
    ("factors-diagonal", "only the diagonals of A and G are used", "factors", "diagonal"),
    ("kfac-bias-apart", "K-FAC has factors of their own for weights and bias, without cross terms in A",
     "bias_block", "apart"),
    ("null-space-dropped", "the null space is dropped: the part v_perp / a of the solve is missing",
     "null_space", "dropped"),
    ("rho-replaces-damping", "rho |g|^2 replaces the damping in place of adding to it", "rho_place",
     "replaces damping"),
    ("hvp-fisher", "a Fisher product stands in for the Hessian product", "hvp", "fisher"),
    ("hvp-gradient-outer", "g g^T stands in for the Hessian", "hvp", "loss gradient outer"),
    ("hvp-residual-term", "the Hessian product lacks its Gauss-Newton term", "hvp", "residual term alone"),
    ("hvp-exact", "the Hessian product is exact, where a difference of gradients is meant", "hvp", "exact"),
    ("not-preconditioned", "the gradient is not preconditioned", "place", "gradient not preconditioned"),
    ("step-sign", "the step has the wrong sign", "step", "sign"),
    ("delta-subtracted", "the whole step, weight decay included, is subtracted", "applied", "negated"),
    ("lr-left-out", "the step size is left out", "step", "lr left out"),
    ("lr-twice", "the step size is applied twice", "step", "lr twice"),
    ("schedule-ignored", "every step uses the settings of the first, the schedule ignored", "schedule",
     "ignored"),
    ("betas-swapped", "beta1 and beta2 are swapped", "betas", "swapped"),
    ("eps-inside-root", "eps stands inside the root", "eps", "inside"),
    ("eps-before-correction", "eps is added before the bias correction", "eps", "uncorrected root"),
    ("eps-added", "eps is added to the bound, where the maximum is meant", "eps", "added"),
    ("gamma-left-out", "gamma is left out", "gamma", "left out"),
    ("not-clipped", "the step is not clipped", "clip", "none"),
    ("gain-before-update", "the gain uses the covariance before the update", "gain", "before the update"),
    ("covariance-first-order", "P - P B^T B P is taken for the posterior covariance", "gain", "first order"),
    ("covariance-before-update", "the covariance reported is that before the update", "covariance",
     "before the update"),
    ("process-noise-dropped", "the process noise is dropped", "process_noise", "dropped"),
    ("process-noise-late", "the process noise is added after the update", "process_noise",
     "after the update"),
    ("process-noise-early", "the process noise is added before the forgetting", "process_noise",
     "before forgetting"),
    ("double-counting", "the batch is counted twice", "count", "double"),
    ("update-repeated", "the batch is observed twice, one update after the other", "count",
     "update repeated"),
    ("hessian-not-squared", "H stands where H^2 is meant", "rho", "H instead of its square"),
    ("explicit-mean-missing", "the term rho H g is missing in the filter's step", "rho",
     "mean without H g"),
    ("prior-inverted", "the prior variance is taken for a precision", "prior", "inverted"),
    ("prior-squared", "the prior variance is taken for a deviation", "prior", "squared"),
    ("belief-layers-separate", "cross terms between layers are missing in the belief", "belief",
     "layers separate"),
    ("belief-other-projection", "the other projection of the diagonal belief is used", "belief",
     "other projection"),
    ("low-rank-rest-dropped", "what the low-rank belief truncates is dropped, its diagonal too", "low_rank",
     "rest dropped"),
    ("iterations-ignored", "the batch is linearised once, the iterations ignored", "iterations", "ignored"),
    ("iterations-counted", "every iteration counts the batch once more", "iterations", "counted"),
    ("iterations-without-pull", "an iterated step lacks the pull back to the predicted mean", "iterations",
     "no pull"),
)  # fmt: skip
# The same, for changes that are a factor 1/N.
_OVER_N: tuple[tuple[str, str, str, str], ...] = (
    ("bartlett-without-N", "the Gauss-Newton-Bartlett estimate lacks its factor N", "sophia", "without N"),
    ("information-mean", "the information is a mean over the examples, where a sum is meant", "count",
     "mean information"),
    ("kalman-mean-gradient", "the filter's step uses the mean gradient, where the sum is meant", "count",
     "mean gradient"),
    ("rho-without-N", "rho |g|^2 lacks its factor N", "rho_place", "without N"),
)  # fmt: skip


def _single_changes() -> Iterator[Hypothesis]:
    for name, sentence, knob, value in _ALONE:
        yield Hypothesis(name, sentence, {knob: value})
    for name, sentence, knob, value in _OVER_N:
        yield Hypothesis(name, sentence, {knob: value}, factor="1/N")
    for power in range(1, 9):
        yield Hypothesis(
            f"observation-epsilon-1e-{power}",
            f"an epsilon of 1e-{power} is added to the observation covariance",
            {"output_fisher": ("epsilon", 10.0**-power)},
        )


def _layouts() -> Iterator[Hypothesis]:
    for layout in LAYOUTS:
        name = _slug(layout)
        yield Hypothesis(f"layout-{name}", f"parameters are laid out: {layout}", {"layout": layout}, True)
        yield Hypothesis(f"read-{name}", f"theta is read as if laid out: {layout}", {"read_layout": layout})
    yield Hypothesis("factors-swapped", "the pair is (G, A), not (A, G)", {"pair": "swapped"}, True)


def _curvatures() -> Iterator[Hypothesis]:
    yield from _family(
        "fisher",
        "{} Fisher is used in place of the case's kind",
        "kind",
        {"expected": "the expected", "empirical": "the empirical", "monte_carlo": "a Monte-Carlo"},
    )
    yield from _family(
        "structure",
        "the curvature is {}, in place of the case's structure",
        "structure",
        {
            "full": "the full Fisher",
            "block_diagonal": "its layer blocks (cross terms missing)",
            "diagonal": "its diagonal (cross terms missing)",
            "kfac": "K-FAC",
            "unitwise": "its unit-wise blocks",
            "ekfac": "EKFAC",
        },
    )


def _solves() -> Iterator[Hypothesis]:
    ways = ("none", "twice", "squared", "root", "half", "times N", "over N")
    yield from _family(
        "damping",
        "the damping is wrong: {}",
        "damping",
        {how: how for how in ways},
        {"times N": "N", "over N": "1/N"},
    )
    yield from _family(
        "damping",
        "damping is put {}",
        "damping_place",
        {
            "exact": "on the product, where the factors are meant (after, not before)",
            "factored": "on the factors, where the product is meant (before, not after)",
            "factored without pi": "on the factors without pi",
            "pi inverted": "with pi inverted",
            "pi of traces": "with pi of traces not divided by the dimensions",
            "pi squared": "with pi squared",
            "on A": "on the factor A only",
            "on G": "on the factor G only",
            "no root": "on both factors without the root",
            "multiplicative": "times the diagonal of the curvature",
        },
    )


def _regularization() -> Iterator[Hypothesis]:
    yield from _family(
        "rho",
        "rho {}",
        "rho",
        {
            "dropped": "is dropped",
            "norm": "multiplies the norm of the gradient, not its square",
            "half": "is halved",
            "twice": "is doubled",
            "squared": "is squared",
            "mean square": "multiplies the mean of the squared entries",
            "summed gradient": "multiplies the square of the summed gradient",
            "over N": "is divided by N",
            "negative": "has the wrong sign",
            "per layer": "multiplies each layer's own norm, not the global one",
            "per example": "multiplies the mean squared norm of the examples' gradients",
            "gradient left out": "is right, but the gradient itself is left out",
        },
        {"summed gradient": "N^2", "over N": "1/N"},
    )


def _steps() -> Iterator[Hypothesis]:
    ways = ("none", "dampened", "nesterov")
    yield from _family("momentum", "the momentum is another one: {}", "momentum", {how: how for how in ways})
    yield from _family(
        "decay",
        "weight decay is {}",
        "decay",
        {
            "none": "left out",
            "coupled": "added to the gradient",
            "decoupled": "decoupled",
            "without lr": "not multiplied by the step size",
            "sign": "of the wrong sign",
            "in momentum": "carried on by the momentum",
        },
    )
    yield from _family(
        "ema",
        "the moving average {}",
        "ema",
        {
            "none": "is left out",
            "uncorrected": "is not bias corrected",
            "corrected": "is bias corrected where it should not be",
            "corrected twice": "is bias corrected twice",
            "from identity": "starts at the identity",
            "from first": "starts at the first value",
            "weights swapped": "has beta and 1 - beta swapped",
            "first uncorrected": "of the gradient is not bias corrected",
            "second uncorrected": "of the squares is not bias corrected",
        },
    )
    yield from _family(
        "refresh",
        "the curvature is {}",
        "refresh",
        {
            "every step": "rebuilt at every step, the refresh period ignored",
            "only first": "never rebuilt: stale factors",
            "one step late": "that of the step before: stale factors",
        },
    )
    yield from _family(
        "forgetting",
        "the forgetting factor {}",
        "forgetting",
        {
            "wrong side": "multiplies the covariance, where it divides it",
            "dropped": "is dropped",
            "after the update": "is applied after the update",
            "squared": "is squared",
        },
    )


HYPOTHESES: tuple[Hypothesis, ...] = (
    *_reductions(),
    *_scales(),
    *_layouts(),
    *_single_changes(),
    *_curvatures(),
    *_solves(),
    *_regularization(),
    *_steps(),
    *_single_stages(),
)
BY_ID = {hypothesis.id: hypothesis for hypothesis in HYPOTHESES}
