"""Mini-batches: a permutation an epoch, from a seed and the number of the epoch alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array, check_integer, from_host, namespace, namespace_of_mixed, stream


@dataclass(frozen=True)
class Batches:
    """Each epoch visits every example once, in parts of nearly equal size, at most ``batch_size``.

    Pure: a batch is a function of the step number, so a resumed run sees the batches of an uninterrupted one.
    Without ``batch_size`` a batch is all examples, in their own order.
    """

    examples: int
    batch_size: int | None
    seed: int

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            check_integer("batch_size", self.batch_size, minimum=1)
        check_integer("seed", self.seed, minimum=0)

    @property
    def per_epoch(self) -> int:
        """Batches an epoch."""
        return 1 if self.batch_size is None else -(-self.examples // self.batch_size)

    def total(self, epochs: int | None, steps: int | None) -> int:
        """Number of steps of a run that is so many epochs or steps long, of which one is given."""
        if (epochs is None) == (steps is None):
            raise ValueError(f"epochs or steps must be given, one of the two, got {epochs} and {steps}")
        if steps is not None:
            return check_integer("steps", steps, minimum=1)
        return check_integer("epochs", epochs, minimum=1) * self.per_epoch

    def indices(self, step: int) -> np.ndarray:
        """Which examples step number ``step`` sees."""
        epoch, part = divmod(step, self.per_epoch)
        order = stream(self.seed, "batches", epoch).permutation(self.examples)
        first, last = (self.examples * i // self.per_epoch for i in (part, part + 1))
        return order[first:last]

    def take(self, x: Array, y: Array, step: int) -> tuple[Array, Array]:
        """The batch of a step, of the library and on the device of x."""
        if self.batch_size is None:
            return x, y
        xp = namespace_of_mixed(x=x, y=y)
        chosen = from_host(self.indices(step), x, dtype=namespace(x=x).int32)
        return xp.take(x, chosen, axis=0), xp.take(y, chosen, axis=0)
