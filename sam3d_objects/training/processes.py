"""What processes that train together agree on. A run of one process exchanges nothing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric

Shared = TypeVar("Shared")


class FirstFailedError(ValueError):
    """What the first process failed with, in another one, which has nothing of its own to say to people.

    Attributes:
        told_elsewhere: whoever prints errors leaves this one out.
    """

    told_elsewhere = True


class Processes:
    """The processes of a run. Every method but the properties must be called by all of them, in the same order.

    Args:
        fabric: launched.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric, self.count, self.rank = fabric, fabric.world_size, fabric.global_rank

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and tells people."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.count == 1:
            return flag
        return bool(self._sum([float(flag)])[0])

    def means(self, values: Mapping[str, float], samples: int) -> dict[str, float]:
        """Return the means over the samples of all processes.

        Args:
            values: means over this process's samples, under the same names in every process.
            samples: how many of its samples count; not 0 in every process.
        """
        if self.count == 1:
            return dict(values)
        names = sorted(values)
        *sums, total = self._sum([*(values[name] * samples for name in names), float(samples)])
        return dict(zip(names, (value / total for value in sums), strict=True))

    def _sum(self, values: list[float]) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64, device=self.fabric.device)
        torch.distributed.all_reduce(tensor)
        return tensor.tolist()

    def from_first(self, make: Callable[[], Shared]) -> Shared:
        """Let the first process make something (small) while the others wait, and give it to all.

        Raises:
            FirstFailedError: in the others, as `first_goes_ahead` says.
        """
        made: Shared | None = None
        with self.first_goes_ahead():
            made = make() if self.first else None
        return self.fabric.broadcast(made) if self.count > 1 else made  # type: ignore[return-value]  # the first has it

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """Let the first process go through the block before the others do.

        Raises:
            FirstFailedError: in the others, which then leave the block out: the first had a ValueError or an OSError,
                such as a user can cause, which it raises itself.
        """
        if self.count == 1:
            yield
        elif self.first:
            try:
                yield
            except (ValueError, OSError) as error:
                self.fabric.broadcast(str(error))  # else the others would wait, and lose the connection to this one
                raise
            self.fabric.broadcast(None)
        else:
            failure: str | None = self.fabric.broadcast(None)
            if failure is not None:
                raise FirstFailedError(failure)
            yield

    def gathered(self, mine: Any) -> list[Any]:
        """Return what each process gave, in the order of their ranks."""
        if self.count == 1:
            return [mine]
        everyone: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(everyone, mine)
        return everyone
