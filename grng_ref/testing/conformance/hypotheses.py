"""The table of named causes: each a change of the replay, with the sentence that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


def _table() -> tuple[Hypothesis, ...]:
    found: list[Hypothesis] = []

    def add(id: str, sentence: str, convention: bool = False, **knobs: Any) -> None:
        changes = {name.replace("__", "."): value for name, value in knobs.items()}
        found.append(Hypothesis(id, sentence, changes, convention))

    def everywhere(factor: str, **more: Any) -> dict[str, Any]:
        return {"loss__scale": factor, "gradient__scale": factor, "hessian__scale": factor, **more}

    add("loss-sum", "loss and its derivatives are sums over the examples, not means", True, **everywhere("N"))
    add(
        "reduction-sum",
        "loss, derivatives and Fisher are sums over the examples, not means",
        True,
        **everywhere("N", fisher__scale="N"),
    )
    add(
        "loss-mean-outputs",
        "loss and its derivatives are means over the outputs too (1/K)",
        True,
        **everywhere("1/K"),
    )
    add(
        "reduction-mean-outputs",
        "loss, derivatives and Fisher are means over the outputs too (1/K)",
        True,
        **everywhere("1/K", fisher__scale="1/K", rows__scale="1/K"),
    )
    add(
        "mse-mean-outputs",
        "squared error without 1/2, mean over the outputs too (2/K), Fisher with it",
        True,
        **everywhere("2/K", fisher__scale="2/K", rows__scale="2/K", only="Gaussian"),
    )
    add(
        "squared-error-whole",
        "the squared error lacks its 1/2 (loss and derivatives doubled)",
        True,
        **everywhere("2", only="Gaussian"),
    )
    add(
        "squared-error-whole-rows",
        "the squared error lacks its 1/2, in sampled and observed scores too",
        True,
        **everywhere("2", rows__scale="2", only="Gaussian"),
    )
    add(
        "squared-error-whole-fisher",
        "the squared error lacks its 1/2, in every Fisher too",
        True,
        **everywhere("2", fisher__scale="2", rows__scale="2", only="Gaussian"),
    )
    add("variance-ignored", "the variance of the Gaussian likelihood is not used", variance=lambda s: 1.0)
    add(
        "variance-as-deviation", "the standard deviation is taken for the variance", variance=lambda s: s**0.5
    )
    add("variance-squared", "the square of the variance is taken for the variance", variance=lambda s: s**2)
    for quantity, name in (
        ("loss", "the loss"),
        ("gradient", "the gradient"),
        ("hessian", "the Hessian product"),
        ("fisher", "the Fisher"),
        ("A", "the factor A"),
        ("G", "the factor G"),
    ):
        for factor in SCALES:
            if factor != "1" and not (factor == "-1" and quantity in ("fisher", "A", "G")):
                add(
                    f"{quantity}-times-{factor.replace(' ', '-')}",
                    f"{name} is {factor} times what it should be",
                    factor in ("N", "1/K") and quantity == "fisher",
                    **{f"{quantity}__scale": factor},
                )
    for factor in SCALES:
        if factor != "1":
            add(
                f"derivatives-times-{factor.replace(' ', '-')}",
                f"gradient and Hessian are {factor} times what they should be",
                gradient__scale=factor,
                hessian__scale=factor,
            )
    for layout in LAYOUTS:
        add(
            f"layout-{layout.replace(', ', '-').replace(' ', '-')}",
            f"parameters are laid out: {layout}",
            True,
            layout=layout,
        )
        add(
            f"read-{layout.replace(', ', '-').replace(' ', '-')}",
            f"theta is read as if laid out: {layout}",
            read_layout=layout,
        )
    add("bias-missing", "the network ignores its biases", bias="missing")
    add("bias-derivatives-missing", "all derivatives by the biases are left out", bias="derivatives missing")
    add("bias-gradient-missing", "the gradient of the biases is left out", bias="gradient missing")
    add("activations-without-ones", "the layer inputs lack the 1 of the bias", activations="no ones")
    add("scale-missing", "the scale c of the layer inputs is left out", layer_scale=lambda c: 1.0)
    add("scale-squared", "the scale c of the layer inputs is applied twice", layer_scale=lambda c: c * c)
    add(
        "saturation-subtracted",
        "p - y and log-sum-exp by subtraction lose the digits of saturated outputs",
        saturation="subtracted",
    )
    add("fisher-expected", "the expected Fisher is used in place of the case's kind", kind="expected")
    add("fisher-empirical", "the empirical Fisher is used in place of the case's kind", kind="empirical")
    add("fisher-monte-carlo", "a Monte-Carlo Fisher is used in place of the case's kind", kind="monte_carlo")
    add("draws-summed", "Monte-Carlo draws are summed, not averaged", mc="draws summed")
    add(
        "fisher-of-mean-gradient",
        "the Fisher is the outer product of the mean gradient",
        rows="mean gradient",
    )
    add(
        "output-rows-summed",
        "the score rows of an example are summed before they are squared",
        rows="outputs summed",
    )
    add("output-fisher-identity", "the output Fisher is taken as the identity", output_fisher="identity")
    add(
        "output-fisher-diagonal",
        "cross terms between outputs are missing (diagonal of the output Fisher)",
        output_fisher="diagonal",
    )
    add(
        "output-fisher-without-pp",
        "the term p p^T of the softmax Fisher is missing",
        output_fisher="no outer product",
    )
    add("class-dropped", "one class of the softmax is dropped", output_fisher="class dropped")
    for power in range(1, 9):
        add(
            f"observation-epsilon-1e-{power}",
            f"an epsilon of 1e-{power} is added to the observation covariance",
            output_fisher=("epsilon", 10.0**-power),
        )
    for structure, words in (
        ("full", "the full Fisher"),
        ("block_diagonal", "its layer blocks (cross terms missing)"),
        ("diagonal", "its diagonal (cross terms missing)"),
        ("kfac", "K-FAC"),
        ("unitwise", "its unit-wise blocks"),
        ("ekfac", "EKFAC"),
    ):
        add(
            f"structure-{structure.replace('_', '-')}",
            f"the curvature is {words}, in place of the case's structure",
            structure=structure,
        )
    add("kronecker-A-G", "A kron G is used where G kron A is meant", kron="AG")
    add("factors-swapped", "the pair is (G, A), not (A, G)", True, pair="swapped")
    add("factors-diagonal", "only the diagonals of A and G are used", factors="diagonal")
    for how in ("none", "twice", "squared", "root", "half", "times N", "over N"):
        add(f"damping-{how.replace(' ', '-')}", f"the damping is wrong: {how}", damping=how)
    add(
        "damping-exact",
        "damping is put on the product, where the factors are meant (after, not before)",
        damping_place="exact",
    )
    add(
        "damping-factored",
        "damping is put on the factors, where the product is meant (before, not after)",
        damping_place="factored",
    )
    for place, words in (
        ("factored without pi", "on the factors without pi"),
        ("pi inverted", "with pi inverted"),
        ("pi of traces", "with pi of traces not divided by the dimensions"),
        ("pi squared", "with pi squared"),
        ("on A", "on the factor A only"),
        ("on G", "on the factor G only"),
        ("no root", "on both factors without the root"),
        ("multiplicative", "times the diagonal of the curvature"),
    ):
        add(f"damping-{place.replace(' ', '-')}", f"damping is put {words}", damping_place=place)
    add(
        "null-space-dropped",
        "the null space is dropped: the part v_perp / a of the solve is missing",
        null_space="dropped",
    )
    for how, words in (
        ("dropped", "is dropped"),
        ("norm", "multiplies the norm of the gradient, not its square"),
        ("half", "is halved"),
        ("twice", "is doubled"),
        ("squared", "is squared"),
        ("mean square", "multiplies the mean of the squared entries"),
        ("summed gradient", "multiplies the square of the summed gradient"),
        ("over N", "is divided by N"),
        ("negative", "has the wrong sign"),
        ("per layer", "multiplies each layer's own norm, not the global one"),
        ("per example", "multiplies the mean squared norm of the examples' gradients"),
        ("gradient left out", "is right, but the gradient itself is left out"),
    ):
        add(f"rho-{how.replace(' ', '-')}", f"rho {words}", rho=how)
    add(
        "rho-replaces-damping",
        "rho |g|^2 replaces the damping in place of adding to it",
        rho_place="replaces damping",
    )
    add("hvp-fisher", "a Fisher product stands in for the Hessian product", hvp="fisher")
    add("hvp-gradient-outer", "g g^T stands in for the Hessian", hvp="loss gradient outer")
    add("hvp-residual-term", "the Hessian product lacks its Gauss-Newton term", hvp="residual term alone")
    add("not-preconditioned", "the gradient is not preconditioned", place="gradient not preconditioned")
    add("step-sign", "the step has the wrong sign", step="sign")
    add("delta-subtracted", "the whole step, weight decay included, is subtracted", applied="negated")
    add("lr-left-out", "the step size is left out", step="lr left out")
    add("lr-twice", "the step size is applied twice", step="lr twice")
    for how in ("none", "dampened", "nesterov"):
        add(f"momentum-{how}", f"the momentum is another one: {how}", momentum=how)
    for how, words in (
        ("none", "left out"),
        ("coupled", "added to the gradient"),
        ("decoupled", "decoupled"),
        ("without lr", "not multiplied by the step size"),
        ("sign", "of the wrong sign"),
        ("in momentum", "carried on by the momentum"),
    ):
        add(f"decay-{how.replace(' ', '-')}", f"weight decay is {words}", decay=how)
    for how, words in (
        ("none", "is left out"),
        ("uncorrected", "is not bias corrected"),
        ("corrected", "is bias corrected where it should not be"),
        ("corrected twice", "is bias corrected twice"),
        ("from identity", "starts at the identity"),
        ("from first", "starts at the first value"),
        ("weights swapped", "has beta and 1 - beta swapped"),
        ("first uncorrected", "of the gradient is not bias corrected"),
        ("second uncorrected", "of the squares is not bias corrected"),
    ):
        add(f"ema-{how.replace(' ', '-')}", f"the moving average {words}", ema=how)
    for how, words in (
        ("every step", "rebuilt at every step, the refresh period ignored"),
        ("only first", "never rebuilt: stale factors"),
        ("one step late", "that of the step before: stale factors"),
    ):
        add(f"refresh-{how.replace(' ', '-')}", f"the curvature is {words}", refresh=how)
    add("betas-swapped", "beta1 and beta2 are swapped", betas="swapped")
    add("eps-inside-root", "eps stands inside the root", eps="inside")
    add("eps-before-correction", "eps is added before the bias correction", eps="uncorrected root")
    add("eps-added", "eps is added to the bound, where the maximum is meant", eps="added")
    add("gamma-left-out", "gamma is left out", gamma="left out")
    add("not-clipped", "the step is not clipped", clip="none")
    add("bartlett-without-N", "the Gauss-Newton-Bartlett estimate lacks its factor N", sophia="without N")
    add("gain-before-update", "the gain uses the covariance before the update", gain="before the update")
    add("covariance-first-order", "P - P B^T B P is taken for the posterior covariance", gain="first order")
    add(
        "covariance-before-update",
        "the covariance reported is that before the update",
        covariance="before the update",
    )
    add("process-noise-dropped", "the process noise is dropped", process_noise="dropped")
    add("process-noise-late", "the process noise is added after the update", process_noise="after the update")
    add(
        "process-noise-early",
        "the process noise is added before the forgetting",
        process_noise="before forgetting",
    )
    for how, words in (
        ("wrong side", "multiplies the covariance, where it divides it"),
        ("dropped", "is dropped"),
        ("after the update", "is applied after the update"),
        ("squared", "is squared"),
    ):
        add(f"forgetting-{how.replace(' ', '-')}", f"the forgetting factor {words}", forgetting=how)
    add("double-counting", "the batch is counted twice", count="double")
    add("update-repeated", "the batch is observed twice, one update after the other", count="update repeated")
    add(
        "information-mean",
        "the information is a mean over the examples, where a sum is meant",
        count="mean information",
    )
    add(
        "kalman-mean-gradient",
        "the filter's step uses the mean gradient, where the sum is meant",
        count="mean gradient",
    )
    add("rho-without-N", "rho |g|^2 lacks its factor N", rho_place="without N")
    add("hessian-not-squared", "H stands where H^2 is meant", rho="H instead of its square")
    add("explicit-mean-missing", "the term rho H g is missing in the filter's step", rho="mean without H g")
    add("prior-inverted", "the prior variance is taken for a precision", prior="inverted")
    add("prior-squared", "the prior variance is taken for a deviation", prior="squared")
    add(
        "belief-layers-separate",
        "cross terms between layers are missing in the belief",
        belief="layers separate",
    )
    add(
        "belief-other-projection",
        "the other projection of the diagonal belief is used",
        belief="other projection",
    )
    for stage in (
        "gradient",
        "fisher",
        "curvature_product",
        "damped_solve",
        "hvp",
        "regularized_gradient",
        "delta",
        "belief_covariance",
    ):
        for factor in ("N", "1/N", "2", "1/2", "K", "1/K", "-1"):
            add(
                f"{stage}-alone-times-{factor}",
                f"{stage} alone is {factor} times what it should be",
                stage__scale={stage: factor},
            )
    for stage in ("jacobian", "fisher", "factors"):
        add(f"{stage}-transposed", f"{stage} is transposed", stage__transposed=stage)
    return tuple(found)


HYPOTHESES = _table()
BY_ID = {hypothesis.id: hypothesis for hypothesis in HYPOTHESES}
