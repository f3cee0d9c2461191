"""What an experiment is made of besides the loop, which `Trainer` has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from seqkern.data import Vocabulary
from seqkern.data.contexts import seeded_generator
from seqkern.models.layers import evaluating as evaluating  # for tasks
from seqkern.training.config import RunConfig
from seqkern.training.state import State

if TYPE_CHECKING:
    from typing_extensions import Self

    from seqkern.training.run import Run

C = TypeVar("C", bound=RunConfig)


class Batches(Protocol):
    """An endless sequence of batches, in epochs of `len` batches.

    Attributes
    ----------
    position : int
        All that tells where training stands; restoring it restores the sequence of batches.
    carries_state : bool
        Whether a batch continues the one before, so that the state of `Task.loss` is carried.
    """

    position: int
    carries_state: bool

    def __len__(self) -> int: ...

    def next(self) -> Any:
        """The next batch; the position moves on."""


class Task(ABC, Generic[C]):
    """What a run trains on and how it is judged: data, model, loss, scores.

    Attributes
    ----------
    family : str
        What the commands call the task, in `seqkern eval FAMILY RUN`.
    Config : type
        Class of its settings.
    sources : tuple of str
        Values of `config.data` that are no paths.
    score : str
        Which figure of `evaluate` tells the best epoch.
    higher_is_better : bool
    unit : str
        What the speed of training counts.
    config : RunConfig
        The settings, with what the data decided (sizes of vocabularies).
    vocabularies : mapping of str to Vocabulary
        Saved with the run.
    checksum : int
        Of the training data: a run is resumed on the same.
    """

    family: ClassVar[str]
    Config: ClassVar[type[RunConfig]]
    sources: ClassVar[tuple[str, ...]] = ()
    score: ClassVar[str]
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "examples"

    config: C
    vocabularies: Mapping[str, Vocabulary]
    checksum: int

    @classmethod
    @abstractmethod
    def load(cls, config: C, vocabularies: Mapping[str, Vocabulary] | None = None) -> Self:
        """Read or make the data that `config.data` names.

        Parameters
        ----------
        config : RunConfig
        vocabularies : mapping, optional
            Those of the run, by which to number the data; by default they come from the data.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such data, it is malformed, or not what the run's model takes.
        """

    @staticmethod
    @abstractmethod
    def build_model(config: Any) -> torch.nn.Module:
        """The model of the settings, fresh, from torch's global generator; needs no data."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """Model and data in half a line."""

    @property
    def items(self) -> int:
        """Units (see `unit`) of a whole batch."""
        return self.config.batch_size

    @abstractmethod
    def batches(self, device: torch.device, rank: int = 0, world: int = 1) -> Batches:
        """The training batches, or each one's part for process `rank` of `world`.

        Raises
        ------
        ValueError
            If the data is too short for a batch or for the evaluation that the settings ask for, or
            a batch cannot be shared evenly.
        """

    @abstractmethod
    def loss(
        self, model: Callable[..., Any], batch: Any, state: State | None
    ) -> tuple[Tensor, State | None]:
        """Mean loss of a batch, and the state after it.

        `state` is None, or what the batch before returned where the batches carry it (detached).
        """

    def share(self, batch: Any) -> float:
        """A batch's size by that of a whole one; the learning rate of its step is in proportion."""
        return 1.0

    def training_scores(self, loss: float) -> dict[str, float]:
        """Figures of an epoch's training by the mean of its batches' losses."""
        return {"loss": loss}

    @abstractmethod
    def evaluate(self, model: torch.nn.Module, split: str) -> dict[str, float]:
        """Figures of the model on "train", "valid" or "test" data, `score` among them.

        The model is used in evaluation mode (see `evaluating`), and left in the mode it was in.
        """

    def finish(self, model: torch.nn.Module, folder: Path) -> str:
        """Write what else a run's folder has, whenever training ends; return a line to print.

        It is called in one process, with the model as trained last.
        """
        return ""

    def report(self, model: torch.nn.Module, split: str) -> str:
        """More about the model on a part of the data, which `seqkern eval` prints."""
        return ""

    @classmethod
    def show(cls, run: Run, plots: Path) -> str:
        """Write pictures of a trained model into a folder; return samples to print."""
        return ""


class ExampleBatches:
    """Batches of examples, in an order that is drawn anew for each epoch.

    The examples that fill no batch are left out, others in each epoch.

    Parameters
    ----------
    count : int
        Number of examples.
    batch_size : int
    collate : callable
        Makes a batch of the examples' indices, int64 of shape (batch_size / world,).
    seed : int
        The order depends on it and on the epoch alone.
    rank, world : int
        Which part of each batch to give, of how many.

    Raises
    ------
    ValueError
        If there are fewer examples than `batch_size`, or `world` does not divide it.

    Examples
    --------
    >>> batches = ExampleBatches(6, 2, lambda indices: indices.tolist())
    >>> len(batches), sorted(batches.next() + batches.next() + batches.next())
    (3, [0, 1, 2, 3, 4, 5])
    """

    carries_state = False

    def __init__(
        self,
        count: int,
        batch_size: int,
        collate: Callable[[Tensor], Any],
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if count < batch_size:
            raise ValueError(f"too little data: {count} examples, but batch_size is {batch_size}")
        self.count, self.batch_size, self.collate, self.seed = count, batch_size, collate, seed
        self.part = part_of_batch(batch_size, rank, world)
        self.position = 0
        self._order: tuple[int, Tensor] | None = None  # of an epoch

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.count // self.batch_size

    def next(self) -> Any:
        """The next batch; the position moves on."""
        epoch, batch = divmod(self.position, len(self))
        if self._order is None or self._order[0] != epoch:
            generator = seeded_generator(self.seed, epoch)
            self._order = (epoch, torch.randperm(self.count, generator=generator))
        indices = self._order[1][batch * self.batch_size :][: self.batch_size]
        self.position += 1
        return self.collate(indices[self.part])


def part_of_batch(batch_size: int, rank: int, world: int) -> slice:
    """The part of a batch that is process `rank`'s of `world`.

    Raises
    ------
    ValueError
        If the parts would not be equal.

    Examples
    --------
    >>> part_of_batch(20, 1, 2)
    slice(10, 20, None)
    """
    if batch_size % world != 0:
        raise ValueError(
            f"batch_size must be a multiple of the number of processes, {world}, got {batch_size}"
        )
    size = batch_size // world
    return slice(rank * size, (rank + 1) * size)
