"""What a battery says of a planted defect."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def caught() -> Callable[..., set[str]]:
    """``caught(check, subject, **options)``: the names of the properties that a battery says are violated."""

    def run(check: Callable[..., None], subject: Any, **options: Any) -> set[str]:
        with pytest.raises(AssertionError, match="properties violated") as error:
            check(subject, **options)
        return set(re.findall(r"^  (\w+): ", str(error.value), flags=re.MULTILINE))

    return run
