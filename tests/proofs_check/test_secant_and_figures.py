"""The effective secant constant against closed forms; the script of the figures, in its quick form."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from planted import assert_caught
from support import import_peer

from proofs_check import convergence
from proofs_check.claims import secant
from proofs_check.convergence import Point, secant_constants

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "theory_figures.py"


def parabola(w: float) -> Point:
    """f(w) = w^2 with label 0."""
    return Point(np.array([w]), np.array([w**2]), np.array([[2 * w]]))


def test_of_a_parabola_is_half_the_step_over_the_weight():
    """``(w + d)^2 - w^2 - 2 w d = d^2``, over ``2 |w| |d|``."""
    found = secant_constants([parabola(2.0), parabola(1.5), parabola(-3.0)])
    np.testing.assert_allclose(found, [0.5 / 4.0, 4.5 / 3.0], rtol=1e-15)


def test_of_a_linear_network_is_zero_and_of_no_step_undefined():
    J = np.array([[1.0, 2.0], [0.0, 1.0]])
    points = [
        Point(w, J @ w, J) for w in (np.array([1.0, 1.0]), np.array([0.5, 0.25]), np.array([0.5, 0.25]))
    ]
    found = secant_constants(points)
    assert found[0] == 0.0
    assert math.isnan(found[1])
    assert len(secant_constants(points[:1])) == 0


def filters_beyond_one(patch):
    patch.setattr(secant, "ring", lambda s, nu: 0 * s + 2.2)


def residuals_in_another_unit(patch):
    right = convergence.point

    def wrong(instance, theta=None):
        found = right(instance, theta)
        return found._replace(residual=4 * found.residual)

    patch.setattr(convergence, "point", wrong)


@pytest.mark.parametrize("plant", [filters_beyond_one, residuals_in_another_unit])
def test_planted_errors_are_caught(plant, monkeypatch):
    assert_caught(plant, ["steps-with-a-small-secant-constant-keep-the-unified-rate"], monkeypatch)


# --- figures ----------------------------------------------------------------------------------------------


def figures():
    import_peer("matplotlib")
    spec = importlib.util.spec_from_file_location("theory_figures", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(figure):
    return {
        line.get_label().split(":")[0]: np.asarray(line.get_ydata()) for line in figure.axes[0].get_lines()
    }


def test_every_figure_is_made_and_used(tmp_path, capsys):
    script = figures()
    assert script.main(["--quick", "--out", str(tmp_path), "--format", "png"]) == 0
    printed = capsys.readouterr().out
    pages = "".join(page.read_text("utf-8") for page in (SCRIPT.parents[1] / "docs" / "theory").glob("*.md"))
    for name in script.FIGURES:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"figures/{name}.svg" in pages
        assert (SCRIPT.parents[1] / "docs" / "theory" / "figures" / f"{name}.svg").is_file()
    assert "exponent" in printed


def test_figures_show_what_the_pages_say():
    script = figures()
    assert min(lines(script.sharpness(True))["the least of them"]) >= 1 - 1e-9
    fall = lines(script.divergence(True))
    assert np.all(np.diff(fall["NGD"]) > 0)
    assert np.all(np.diff(fall["RING, ρ = 1 ρ*"]) < 0)
    largest = lines(script.wind_up(True))
    assert np.all(np.diff(largest["no cure"]) > 0)
    assert np.all(largest["prior-preserving forgetting"] <= 1 + 1e-12)
    for name, values in lines(script.reng_threshold(True)).items():
        if name.startswith("ρ"):
            expected = np.abs(1 - 2 * np.linspace(0.1, 1.4, len(values)))
            np.testing.assert_allclose(values, expected, atol=1e-6)
