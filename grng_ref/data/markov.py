"""A Markov source of second order, drawn at random, whose entropy rate is known exactly."""

from __future__ import annotations

import math

import numpy as np

from ..likelihoods import Categorical
from .dataset import TRAIN, VALIDATION, DataSet, assemble

SYMBOLS = 8
DRAWS = 6  # permutations a law is the average of; the fewer, the less entropy
DEFAULT_SIZE = 10_000


def source_counts(rng: np.random.Generator) -> np.ndarray:
    """N (K, K, K): the symbol c follows (a, b) with probability ``n[a, b, c] / DRAWS``.

    For every b the matrix over (a, c) is a sum of permutations: its columns sum to `DRAWS` too, so
    that all K^2 pairs are equally probable in the long run.
    """
    counts = np.zeros((SYMBOLS, SYMBOLS, SYMBOLS), dtype=np.int64)
    for b in range(SYMBOLS):
        for _ in range(DRAWS):
            counts[np.arange(SYMBOLS), b, rng.permutation(SYMBOLS)] += 1
    return counts


def entropy_rate(counts: np.ndarray) -> float:
    """``-(1/K^2) sum_ab sum_c p log p`` with p = n/DRAWS, in nats."""
    terms = [n / DRAWS * math.log(DRAWS / n) for n in counts.ravel().tolist() if n > 0]
    return math.fsum(terms) / SYMBOLS**2


def markov(rng: np.random.Generator, size: int | None) -> DataSet:
    """Training and validation examples, ``size`` in all, from two walks; the source's law as the test."""
    counts = source_counts(rng)
    test = np.stack(_law(counts), axis=1)
    sampled = DEFAULT_SIZE if size is None else size
    train = round(sampled * TRAIN / (TRAIN + VALIDATION))
    parts = [_walk(counts, train, rng), _walk(counts, sampled - train, rng), test]
    return assemble(
        "markov",
        Categorical(),
        SYMBOLS,
        [np.eye(SYMBOLS)[part[:, :2]].reshape(len(part), -1) for part in parts],
        [part[:, 2].copy() for part in parts],
        source="drawn: an average of random permutations for every middle symbol",
        note=f"the symbol of {SYMBOLS} after two others, as one-hot vectors; the test part holds every "
        f"context {DRAWS} times, with the next symbols in their exact proportions",
        optimum=entropy_rate(counts),
    )


def _law(counts: np.ndarray) -> tuple[np.ndarray, ...]:
    """(a, b, c), each as often as n says: the stationary law, which is uniform over (a, b)."""
    flat = np.repeat(np.arange(counts.size), counts.ravel())
    return np.unravel_index(flat, counts.shape)


def _walk(counts: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` successive triples (count, 3) of a walk that starts in the stationary law."""
    cumulative = np.cumsum(counts, axis=2)
    symbols = rng.integers(SYMBOLS, size=2).tolist()
    for level in rng.integers(DRAWS, size=count).tolist():
        symbols.append(int(np.searchsorted(cumulative[symbols[-2], symbols[-1]], level, side="right")))
    return np.lib.stride_tricks.sliding_window_view(np.array(symbols, dtype=np.int64), 3).copy()
