"""The version is written in one place of the code; the files that repeat it for readers must agree."""

from __future__ import annotations

from pathlib import Path

import pytest

import grng_ref as gr

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("file", "start"), [("CITATION.cff", "version: "), ("CHANGELOG.md", "## ")])
def test_version_agrees(file, start):
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    newest = next(line.removeprefix(start) for line in lines if line.startswith(start))
    assert newest.split()[0] == gr.__version__


def test_no_merge_left_its_markers():
    """They break code, but in a text nothing else would see them."""
    texts = [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/*.md")]
    marker = "<" * 7 + " "
    assert len(texts) > 10
    assert [str(path) for path in texts if f"\n{marker}" in "\n" + path.read_text(encoding="utf-8")] == []
