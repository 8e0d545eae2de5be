"""Mini-batches: a permutation an epoch, from a seed and the number of the epoch alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array, from_host, host_generator, namespace, namespace_of_mixed


@dataclass(frozen=True)
class Batches:
    """Each epoch visits every example once, in parts of nearly equal size, at most ``batch_size``.

    Pure: a batch is a function of the step number, so a resumed run sees the batches of an uninterrupted one.
    Without ``batch_size`` a batch is all examples, in their own order.
    """

    examples: int
    batch_size: int | None
    seed: int

    @property
    def per_epoch(self) -> int:
        """Batches an epoch."""
        return 1 if self.batch_size is None else -(-self.examples // self.batch_size)

    def indices(self, step: int) -> np.ndarray:
        """Which examples step number ``step`` sees."""
        epoch, part = divmod(step, self.per_epoch)
        order = host_generator([self.seed, epoch]).permutation(self.examples)
        first, last = (self.examples * i // self.per_epoch for i in (part, part + 1))
        return order[first:last]

    def take(self, x: Array, y: Array, step: int) -> tuple[Array, Array]:
        """The batch of a step, of the library and on the device of x."""
        if self.batch_size is None:
            return x, y
        xp = namespace_of_mixed(x=x, y=y)
        chosen = from_host(self.indices(step), x, dtype=namespace(x=x).int32)
        return xp.take(x, chosen, axis=0), xp.take(y, chosen, axis=0)
