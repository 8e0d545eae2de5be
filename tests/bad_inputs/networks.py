"""Bad input at the doors of models, likelihoods, problems and optimizers.

Door -> rows ``(defect, call, error, argument, needs, got)``; see `values.Row`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import grng_ref as gr

from .values import (
    ARRAY,
    CAST,
    DOOR,
    F32,
    FILTER,
    FLOAT,
    FULL,
    INF,
    LAYER,
    MLP,
    NAN,
    NGD,
    PROBLEM,
    REGRESSION,
    RKALMAN,
    SIZE,
    STATE,
    T_,
    THETA,
    V_,
    G,
    T,
    V,
    X,
    Y,
    on,
    there,
    with_entry,
)

# fmt: off
TABLE: dict[str, list[tuple[Any, ...]]] = {
    # --- models and likelihoods ----------------------------------------------------------------------------
    "MLP": [
        ("one width", lambda: gr.MLP((3,)), V_, "sizes", "at least two widths", "got (3,)"),
        ("number for sizes", lambda: gr.MLP(3), V_, "sizes", "at least two widths", "got 3"),
        ("zero width", lambda: gr.MLP((3, 0, 2)), V_, "sizes[1]", "an integer >= 1", "got 0"),
        ("fractional width", lambda: gr.MLP((3, 2.0)), T_, "sizes[1]", "an integer", "got float"),
        ("unknown activation", lambda: gr.MLP((3, 2), activation="swish"),
         V_, "activation", "'tanh'", "got 'swish'"),
        ("integer bias", lambda: gr.MLP((3, 2), bias=1), T_, "bias", "True or False", "got 1"),
        ("unknown parameterization", lambda: gr.MLP((3, 2), parameterization="mup"),
         V_, "parameterization", "'standard', 'ntk'", "got 'mup'"),
        ("a scale less", lambda: gr.MLP((3, 4, 2), scales=(1.0,)), V_, "scales", "2 numbers", "got (1.0,)"),
        ("zero scale", lambda: gr.MLP((3, 2), scales=(0.0,)), V_, "scales[0]", "> 0", "got 0"),
        ("array for frozen", lambda: gr.MLP((3, 4, 2), frozen=LAYER),
         T_, "frozen", "map layer indices to arrays", "got ndarray"),
        ("frozen index out of range", lambda: gr.MLP((3, 4, 2), frozen={2: LAYER}),
         V_, "frozen", "layer indices 0..1", "got 2"),
        ("boolean frozen index", lambda: gr.MLP((3, 4, 2), frozen={True: LAYER}),
         V_, "frozen", "layer indices 0..1", "got True"),
        ("frozen layer of another shape", lambda: gr.MLP((3, 4, 2), frozen={1: LAYER[:, :4]}),
         V_, "frozen[1]", "(2, 5) = (outputs, inputs [+ 1 for the bias])", "got (2, 4)"),
        ("integer frozen layer", lambda: gr.MLP((3, 4, 2), frozen={1: LAYER.astype(int)}),
         T_, "frozen[1]", FLOAT, "int64"),
        ("NaN in a frozen layer", lambda: gr.MLP((3, 4, 2), frozen={1: with_entry(LAYER, NAN)}),
         V_, "frozen[1]", "must be finite", "got NaN or infinite"),
        ("all layers frozen", lambda: gr.MLP((4, 2), frozen={0: LAYER}),
         V_, "frozen", "at least one trainable layer", "got all layers"),
    ],
    "Activation": [
        ("string for a function", lambda: gr.Activation("cube", "x**3", abs, abs),
         T_, "value", "a callable", "got str"),
    ],
    "two_layer": [
        ("zero width", lambda: gr.two_layer(3, 0), V_, "m", "an integer >= 1", "got 0"),
        ("wrong number of signs", lambda: gr.two_layer(3, 2, signs=np.ones(3)),
         V_, "signs", "(2,) = one sign a hidden unit", "got (3,)"),
        ("list for signs", lambda: gr.two_layer(3, 2, signs=[1, -1]), T_, "signs", ARRAY, "got list"),
        ("NaN in signs", lambda: gr.two_layer(3, 1, signs=np.array([NAN])),
         V_, "signs", "must be finite", "got NaN or infinite"),
    ],
    "Gaussian": [
        ("zero variance", lambda: gr.Gaussian(0.0), V_, "variance", "> 0", "got 0"),
        ("string variance", lambda: gr.Gaussian("1"), T_, "variance", "a real number", "got str"),
        ("labels of another width", lambda: gr.Gaussian().check_targets(T, T[:, :1]),
         V_, "y", "(5, 2)", "got (5, 1)"),
    ],
    "Categorical": [
        ("label too large", lambda: gr.Categorical().check_targets(T, Y + 1),
         V_, "y", "class labels 0..1 for 2 outputs", "from 1 to 2"),
        ("one-hot labels", lambda: gr.Categorical().check_targets(T, np.eye(2, dtype=int)[Y]),
         V_, "y", "(5,) = (examples,), one class label a row of f", "got (5, 2)"),
    ],
    "Bernoulli": [
        ("label 2", lambda: gr.Bernoulli().check_targets(T, 0 * T + 2.0),
         V_, "y", "zeros and ones", "an entry 2"),
    ],
    "Poisson": [
        ("negative count", lambda: gr.Poisson().check_targets(T, 0 * T - 1.0),
         V_, "y", "nonnegative whole numbers", "an entry -1"),
        ("fractional count", lambda: gr.Poisson().check_targets(T, 0 * T + 0.5),
         V_, "y", "nonnegative whole numbers", "an entry 0.5"),
    ],
    # --- problems ------------------------------------------------------------------------------------------
    "Problem": [
        ("sizes for a model", lambda: gr.Problem((3, 2), gr.Gaussian()), T_, "model", "an MLP", "got tuple"),
        ("name for a likelihood", lambda: gr.Problem(MLP, "categorical"),
         T_, "likelihood", "an object such as gr.Categorical()", "got str"),
        ("class for a likelihood", lambda: gr.Problem(MLP, gr.Categorical),
         T_, "likelihood", "an object such as gr.Categorical()", "got Categorical"),
    ],
    "Problem.init": [
        ("no seed", lambda: PROBLEM.init(rng=None), T_, "rng", "an integer seed or", "got NoneType"),
        ("fractional seed", lambda: PROBLEM.init(rng=0.5), T_, "rng", "an integer seed or", "got float"),
        ("old NumPy generator", lambda: PROBLEM.init(rng=np.random.RandomState(0)),
         T_, "rng", "numpy.random.Generator", "got RandomState"),
        ("unknown backend", lambda: PROBLEM.init(backend="mxnet"), V_, "backend", "'numpy'", "got 'mxnet'"),
        ("unknown dtype", lambda: PROBLEM.init(dtype="bfloat16"),
         V_, "dtype", "'float64', 'float32'", "got 'bfloat16'"),
    ],
    "Problem.unpack": [
        ("wrong length", lambda: PROBLEM.unpack(THETA[:-1]), V_, "theta", "(26,)", "got (25,)"),
        ("0-d theta", lambda: PROBLEM.unpack(np.array(0.0)), V_, "theta", "(26,)", "got ()"),
        ("list", lambda: PROBLEM.unpack([0.0] * SIZE), T_, "theta", ARRAY, "got list"),
    ],
    "Problem.pack": [
        ("array", lambda: PROBLEM.pack(THETA), T_, "layers", "a tuple of layers", "got ndarray"),
        ("a layer less", lambda: PROBLEM.pack(PROBLEM.unpack(THETA)[:1]),
         V_, "layers", "2 trainable layers", "got 1"),
        ("layers in another order", lambda: PROBLEM.pack(PROBLEM.unpack(THETA)[::-1]),
         V_, "layers[0]", "(4, 4) = (outputs, inputs [+ 1 for the bias])", "got (2, 5)"),
        ("weights without bias", lambda: PROBLEM.pack((V[:, :3], LAYER)),
         V_, "layers[0]", "(4, 4) = (outputs, inputs [+ 1 for the bias])", "got (4, 3)"),
        ("mixed dtypes", lambda: PROBLEM.pack((V, LAYER.astype(F32))),
         T_, "layers[1]", CAST, "float32 but layers[0] has float64"),
        ("bias of another length", lambda: PROBLEM.pack(((V[:, :3], V[0, :3]), LAYER)),
         V_, "layers[0][1]", "(4,) = b (outputs,)", "got (3,)"),
        ("three arrays a layer", lambda: PROBLEM.pack(((V, V, V), LAYER)),
         V_, "layers[0]", "Wbar or a pair (W, b)", "got 3 entries"),
    ],
    "Problem.outputs": [
        ("1-d x", lambda: PROBLEM.outputs(THETA, X[0]), V_, "x", "(any, 3) = (examples, inputs)", "got (3,)"),
        ("integer x", lambda: PROBLEM.outputs(THETA, X.astype(int)), T_, "x", FLOAT, "dtype int64"),
        ("list for x", lambda: PROBLEM.outputs(THETA, X.tolist()), T_, "x", ARRAY, "got list"),
        ("object array", lambda: PROBLEM.outputs(THETA, X.astype(object)), T_, "x", FLOAT, "dtype object"),
        ("empty batch", lambda: PROBLEM.outputs(THETA, X[:0]), V_, "x", "(any, 3)", "got (0, 3)"),
        ("other input width", lambda: PROBLEM.outputs(THETA, T), V_, "x", "(any, 3)", "got (5, 2)"),
        ("NaN in x", lambda: PROBLEM.outputs(THETA, with_entry(X, NAN)),
         V_, "x", "must be finite", "got NaN or infinite"),
        ("0-d theta", lambda: PROBLEM.outputs(np.array(0.0), X), V_, "theta", "(26,)", "got ()"),
        ("NaN in theta", lambda: PROBLEM.outputs(with_entry(THETA, NAN), X),
         V_, "theta", "must be finite", "got NaN or infinite"),
        ("x on another device", lambda: PROBLEM.outputs(there(THETA), on(X)), V_, "x", DOOR, "CPU_DEVICE"),
        ("frozen layer of another dtype", lambda: gr.Problem(
            gr.MLP((3, 4, 2), frozen={1: LAYER}), gr.Gaussian()).outputs(THETA[:16].astype(F32), F32(X)),
         T_, "frozen[1]", CAST, "float64 but theta has float32"),
    ],
    "Problem.loss": [
        ("no labels", lambda: PROBLEM.loss(THETA, X, None), T_, "y", "an array of labels", "got None"),
        ("float labels", lambda: PROBLEM.loss(THETA, X, 1.0 * Y),
         T_, "y", "an integer dtype (class labels 0..1)", "got float64"),
        ("boolean labels", lambda: PROBLEM.loss(THETA, X, Y == 1), T_, "y", "an integer dtype", "got bool"),
        ("integer targets", lambda: REGRESSION.loss(THETA, X, T.astype(int)), T_, "y", FLOAT, "int64"),
        ("labels on another device", lambda: PROBLEM.loss(there(THETA), there(X), on(Y)),
         V_, "y", DOOR, "CPU_DEVICE"),
    ],
    "Problem.gradient": [
        ("negative label", lambda: PROBLEM.gradient(THETA, X, Y - 1), V_, "y", "labels 0..1", "from -1 to 0"),
        ("a label less", lambda: PROBLEM.gradient(THETA, X, Y[:-1]), V_, "y", "(5,)", "got (4,)"),
    ],
    "Problem.per_example_gradients": [
        ("list for labels", lambda: PROBLEM.per_example_gradients(THETA, X, Y.tolist()),
         T_, "y", ARRAY, "got list"),
    ],
    "Problem.jacobian": [
        ("x of another library", lambda: PROBLEM.jacobian(THETA, on(X)),
         T_, "x", DOOR, "array_api_strict but theta to numpy"),
    ],
    "Problem.jvp": [
        ("wrong length of v", lambda: PROBLEM.jvp(THETA, X, G[:-1]), V_, "v", "(26,)", "got (25,)"),
        ("float32 v", lambda: PROBLEM.jvp(THETA, X, G.astype(F32)),
         T_, "v", CAST, "float32 but theta has float64"),
    ],
    "Problem.vjp": [
        ("u of another shape", lambda: PROBLEM.vjp(THETA, X, T.T), V_, "u", "(5, 2)", "got (2, 5)"),
        ("NaN in u", lambda: PROBLEM.vjp(THETA, X, with_entry(T, NAN)), V_, "u", "finite", "got NaN"),
    ],
    "Problem.hvp": [
        ("infinity in v", lambda: PROBLEM.hvp(THETA, X, Y, with_entry(G, INF)), V_, "v", "finite", "got NaN"),
        ("no labels", lambda: PROBLEM.hvp(THETA, X, None, G), T_, "y", "an array of labels", "got None"),
    ],
    "Problem.hessian": [
        ("no labels", lambda: PROBLEM.hessian(THETA, X, None), T_, "y", "an array of labels", "got None"),
    ],
    "Problem.sample": [
        ("no seed", lambda: PROBLEM.sample(THETA, X, rng=None), T_, "rng", "an integer seed or", "NoneType"),
        ("fractional number", lambda: PROBLEM.sample(THETA, X, num_samples=2.5, rng=0),
         T_, "num_samples", "an integer", "got float"),
    ],
    "Problem.activations": [
        ("2-d theta", lambda: PROBLEM.activations(THETA[None], X), V_, "theta", "(26,)", "got (1, 26)"),
    ],
    "Problem.score_signals": [
        ("samples of another shape",
         lambda: PROBLEM.score_signals(THETA, X, kind="monte_carlo", samples=Y[None, :4]),
         V_, "samples[0]", "(5,)", "got (4,)"),
    ],
    "Problem.score_rows": [
        ("empirical without labels", lambda: PROBLEM.score_rows(THETA, X, kind="empirical"),
         V_, "y", "must be given for kind='empirical'", "got None"),
        ("unknown kind", lambda: PROBLEM.score_rows(THETA, X, kind=1), V_, "kind", "'expected'", "got 1"),
    ],
    "Problem.score_coefficients": [
        ("Monte-Carlo", lambda: PROBLEM.score_coefficients(THETA, X, Y, kind="monte_carlo"),
         V_, "kind", "'expected', 'empirical'", "got 'monte_carlo'"),
        ("no labels", lambda: PROBLEM.score_coefficients(THETA, X, None), T_, "y", "an array", "got None"),
    ],
    "Problem.linearize": [
        ("no labels", lambda: PROBLEM.linearize(THETA, X, None), T_, "y", "an array", "got None"),
    ],
    # --- optimizers ----------------------------------------------------------------------------------------
    "ngd": [
        ("model for a problem", lambda: gr.ngd(MLP, lr=0.1), T_, "problem", "a Problem", "got MLP"),
        ("zero lr", lambda: gr.ngd(PROBLEM, lr=0.0), V_, "lr", "> 0", "got 0"),
        ("NaN lr", lambda: gr.ngd(PROBLEM, lr=NAN), V_, "lr", "> 0", "got nan"),
        ("negative damping", lambda: gr.ngd(PROBLEM, lr=0.1, damping=-1), V_, "damping", ">= 0", "got -1"),
        ("unknown structure", lambda: gr.ngd(PROBLEM, lr=0.1, structure="soap"),
         V_, "structure", "'full', 'block_diagonal', 'kfac'", "got 'soap'"),
        ("unknown kind", lambda: gr.ngd(PROBLEM, lr=0.1, kind="mc"), V_, "kind", "'monte_carlo'", "got 'mc'"),
        ("unknown damping kind", lambda: gr.ngd(PROBLEM, lr=0.1, damping_kind="pi"),
         V_, "damping_kind", "'exact', 'factored'", "got 'pi'"),
        ("negative seed", lambda: gr.ngd(PROBLEM, lr=0.1, seed=-1), V_, "seed", "an integer >= 0", "got -1"),
        ("no samples", lambda: gr.ngd(PROBLEM, lr=0.1, num_samples=0), V_, "num_samples", ">= 1", "got 0"),
    ],
    "ring": [
        ("negative rho", lambda: gr.ring(PROBLEM, lr=0.1, rho=-0.1), V_, "rho", ">= 0", "got -0.1"),
        ("no rho", lambda: gr.ring(PROBLEM, lr=0.1, rho=None), T_, "rho", "a real number", "got NoneType"),
    ],
    "reng": [
        ("infinite rho", lambda: gr.reng(PROBLEM, lr=0.1, rho=INF), V_, "rho", ">= 0", "got inf"),
        ("string lr", lambda: gr.reng(PROBLEM, lr="0.1", rho=0.1), T_, "lr", "a real number", "got str"),
    ],
    "rkalman": [
        ("zero prior variance", lambda: gr.rkalman(PROBLEM, prior_variance=0),
         V_, "prior_variance", "> 0", "got 0"),
        ("forgetting above 1", lambda: gr.rkalman(PROBLEM, forgetting=2.0),
         V_, "forgetting", "in (0, 1]", "got 2.0"),
        ("negative process noise", lambda: gr.rkalman(PROBLEM, process_noise=-1.0),
         V_, "process_noise", ">= 0", "got -1"),
        ("unknown belief", lambda: gr.rkalman(PROBLEM, belief="ekf"), V_, "belief", "'full'", "got 'ekf'"),
        ("class for a belief", lambda: gr.rkalman(PROBLEM, belief=gr.FullBelief),
         V_, "belief", "'full'", "FullBelief"),
        ("unknown form", lambda: gr.rkalman(PROBLEM, form="joseph"), V_, "form", "'auto'", "got 'joseph'"),
        ("unknown regularization", lambda: gr.rkalman(PROBLEM, regularization="l2"),
         V_, "regularization", "'implicit', 'explicit'", "got 'l2'"),
    ],
    "Optimizer.init": [
        ("wrong length of theta", lambda: NGD.init(THETA[:-1]), V_, "theta", "(26,)", "got (25,)"),
        ("2-d theta", lambda: NGD.init(THETA[None]), V_, "theta", "(26,)", "got (1, 26)"),
        ("NaN in theta", lambda: RKALMAN.init(with_entry(THETA, NAN)), V_, "theta", "finite", "got NaN or"),
        ("belief of another size", lambda: gr.rkalman(
            PROBLEM, belief=gr.full_belief(THETA[:-1], prior_variance=1.0)).init(THETA),
         V_, "belief", "over 26 parameters", "got 25"),
    ],
    "Optimizer.update": [
        ("state of another optimizer", lambda: NGD.update(THETA, FILTER, X, Y),
         T_, "state", "the NaturalState that opt.init(theta) returns", "got RKalmanState"),
        ("no state", lambda: RKALMAN.update(THETA, None, X, Y), T_, "state", "the RKalmanState", "NoneType"),
        ("no labels", lambda: NGD.update(THETA, STATE, X, None), T_, "y", "an array of labels", "got None"),
        ("method that the structure lacks",
         lambda: gr.ngd(PROBLEM, lr=0.1, damping=0.1, method="lu").update(THETA, STATE, X, Y),
         V_, "method", "'auto', 'gram', 'cholesky', 'eigh', 'newton_schulz'", "got 'lu'"),
        ("schedule below zero",
         lambda: gr.ring(PROBLEM, lr=0.1, rho=lambda step: -1.0 - step).update(THETA, STATE, X, Y),
         V_, "rho", ">= 0", "got -1"),
        ("schedule without a value", lambda: gr.ngd(PROBLEM, lr=lambda s: None).update(THETA, STATE, X, Y),
         T_, "lr", "a real number", "got NoneType"),
        ("samples that nobody asked for", lambda: NGD.update(THETA, STATE, X, Y, samples=Y[None]),
         V_, "samples", "kind='monte_carlo'", "got kind='expected'"),
    ],
    "Optimizer.step": [
        ("label out of range", lambda: RKALMAN.step(THETA, FILTER, X, Y + 1), V_, "y", "labels 0..1", "to 2"),
        ("empty batch", lambda: RKALMAN.step(THETA, FILTER, X[:0], Y[:0]), V_, "x", "(any, 3)", "got (0, 3)"),
        ("batch on another device", lambda: NGD.step(there(THETA), STATE, on(X), on(Y)),
         V_, "x", DOOR, "CPU_DEVICE"),
        ("state of another problem", lambda: RKALMAN.step(
            THETA, replace(FILTER, belief=gr.full_belief(X[0], prior_variance=1.0)), X, Y),
         V_, "mean", "(3,) = one entry a parameter of the belief", "got (26,)"),
    ],
    "compare": [
        ("other length", lambda: gr.compare(G, G[:-1]), V_, "reference", "(26,)", "got (25,)"),
        ("zero reference", lambda: gr.compare(G, 0 * G), V_, "reference", "must not be zero", "is undefined"),
        ("gradient without curvature", lambda: gr.compare(G, G, gradient=G),
         V_, "curvature", "must be given together", "got only gradient"),
        ("matrix for a curvature", lambda: gr.compare(G, G, gradient=G, curvature=np.eye(SIZE)),
         T_, "curvature", "a Curvature", "got ndarray"),
        ("curvature of another size", lambda: gr.compare(T[0], T[0], gradient=T[0], curvature=FULL),
         V_, "curvature", "(2, 2) for this delta", "got (26, 26)"),
        ("negative damping", lambda: gr.compare(G, G, damping=-1.0), V_, "damping", ">= 0", "got -1"),
    ],
}
# fmt: on
