"""English prose: the next character of the help texts that every Python ships."""

from __future__ import annotations

import hashlib
import importlib
import importlib.resources
import platform
import re

import numpy as np

from ..likelihoods import Categorical
from .dataset import DataSet, assemble, split_sizes

ALPHABET = "abcdefghijklmnopqrstuvwxyz .,*"  # the last one stands for every other character
CONTEXT = 4  # characters that the next one is predicted from
SHARED = 30  # so many successive characters are not found in two parts
DEFAULT_SIZE = 12_000

# Of the chosen paragraphs one after the other, a line break between them.
LENGTH, SHA256 = 161_618, "1e478f80c3daa470d395772a04983e50ca23a3ece8e5efec4a809e7e839344b6"


def prose(rng: np.random.Generator, size: int | None) -> DataSet:
    """Windows of `CONTEXT` characters as one-hot vectors, and the index of the character that follows."""
    found = paragraphs()
    parts = split([encode(text) for text in found], rng)
    counts = split_sizes(DEFAULT_SIZE if size is None else size)
    drawn = [_windows(part, count, rng) for part, count in zip(parts, counts, strict=True)]
    return assemble(
        "prose",
        Categorical(),
        len(ALPHABET),
        *zip(*drawn, strict=True),
        source=describe_source(found),
        note=f"the character after {CONTEXT} others, which are one-hot vectors of {len(ALPHABET)} symbols: "
        "letters without case, space, full stop, comma, and one for all others; split by whole "
        f"paragraphs, with no {SHARED} successive characters in two parts",
    )


def paragraphs() -> list[str]:
    """The chosen paragraphs that this Python has, white space reduced to single spaces, in a fixed order."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the prose is that of pydoc_data, which this Python comes without ({error}); "
            "install the whole standard library",
            name=error.name,
        ) from None
    reduced = (" ".join(part.split()) for text in topics.values() for part in re.split(r"\n\s*\n", text))
    by_fingerprint = {fingerprint(paragraph): paragraph for paragraph in reduced}
    return [by_fingerprint[one] for one in chosen() if one in by_fingerprint]


def chosen() -> list[str]:
    """Fingerprints of the paragraphs of prose that Python 3.11, 3.12 and 3.13 have in common.

    They were found in 3.11.2, 3.11.7, 3.12.1 and 3.13.0: at least 80 characters, a capital first, a full stop
    or colon last, no tables or grammar. So the data set does not depend on the Python that reads it.
    """
    text = importlib.resources.files(__package__).joinpath("prose_paragraphs.txt").read_text("ascii")
    return text.split()


def fingerprint(paragraph: str) -> str:
    """The first 32 bits of the SHA-256, in hexadecimal digits."""
    return hashlib.sha256(paragraph.encode()).hexdigest()[:8]


def describe_source(found: list[str]) -> str:
    """Where the text is from, its length and SHA-256, and whether it is the whole."""
    text = "\n".join(found)
    digest = hashlib.sha256(text.encode()).hexdigest()
    missing = len(chosen()) - len(found)
    whole = (
        f"all {len(found)} paragraphs" if digest == SHA256 else f"{missing} of {len(chosen())} are missing"
    )
    return (
        f"pydoc_data.topics of Python {platform.python_version()}, {len(text):,} characters, "
        f"SHA-256 {digest}, {whole}"
    )


def encode(text: str) -> np.ndarray:
    """Indices of the characters in `ALPHABET`."""
    other = len(ALPHABET) - 1
    places = {character: i for i, character in enumerate(ALPHABET[:other])}
    return np.array([places.get(character, other) for character in text.lower()], dtype=np.int64)


def split(codes: list[np.ndarray], rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Whole groups of paragraphs for training, validation and test, in a drawn order."""
    groups = group(codes)
    order = [groups[i] for i in rng.permutation(len(groups))]
    lengths = np.cumsum([sum(len(code) - CONTEXT for code in one) for one in order])
    train, validation, _ = split_sizes(int(lengths[-1]))
    ends = np.searchsorted(lengths, [train, train + validation])
    return [
        [code for one in part for code in one]
        for part in (order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] :])
    ]


def group(codes: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Paragraphs that share `SHARED` successive characters, directly or through others, stand together.

    The help texts repeat whole sentences and have near copies of paragraphs.
    """
    first: dict[bytes, int] = {}  # where a run of characters was met first
    members = [[i] for i in range(len(codes))]
    for i, code in enumerate(codes):
        text = bytes(code.tolist())
        for start in range(len(text) - SHARED + 1):
            kept, moved = members[first.setdefault(text[start : start + SHARED], i)], members[i]
            if kept is not moved:
                kept += moved
                for k in moved:
                    members[k] = kept
    return [[codes[k] for k in one] for one in {id(one): one for one in members}.values()]


def _windows(codes: list[np.ndarray], count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """``count`` windows of these paragraphs, drawn without repetition, and what follows each."""
    windows = np.concatenate([np.lib.stride_tricks.sliding_window_view(c, CONTEXT + 1) for c in codes])
    windows = windows[rng.permutation(len(windows))[:count]]
    one_hot = np.eye(len(ALPHABET))[windows[:, :CONTEXT]]
    return one_hot.reshape(len(windows), -1), windows[:, CONTEXT].copy()
