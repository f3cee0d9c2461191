"""What the tasks on padded sequences share: names, tagged sentences."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from seqkern.analysis.figures import plot_heatmap
from seqkern.data import NameData, Names, TagData, Tagged
from seqkern.training.config import RunConfig
from seqkern.training.run import Run
from seqkern.training.state import State
from seqkern.training.task import Batches, ExampleBatches, Task, evaluating

C = TypeVar("C", bound=RunConfig)

Batch = tuple[Tensor, Tensor, Tensor]
"""Tokens (T, N), lengths (N,), and labels (N,) or tags (T, N)."""

CELLS = ("rnn", "lstm", "gru")  # of the models here
EVALUATION = 512  # sequences evaluated at once


class PaddedTask(Task[C]):
    """A task whose data are sequences of unequal length, padded.

    Attributes
    ----------
    data : NameData or TagData
    """

    data: NameData | TagData

    def part(self, split: str) -> Names | Tagged:
        """The "train", "valid" or "test" part of the data."""
        return getattr(self.data, split)

    def batches(self, device: torch.device, rank: int = 0, world: int = 1) -> Batches:
        """Tokens, lengths and labels of N / world sequences."""
        config, train = self.config, self.part("train")
        return ExampleBatches(
            len(train),
            config.batch_size,
            lambda index: _to(device, train.take(index)),
            config.seed,
            rank,
            world,
        )

    def blocks(self, split: str, device: torch.device) -> Iterator[Batch]:
        """All of a part, in its order."""
        part = self.part(split)
        for index in torch.arange(len(part)).split(EVALUATION):
            yield _to(device, part.take(index))


class LabelTask(PaddedTask[C]):
    """Labels of sequences or of their tokens, by a model that gives logits of the classes.

    Attributes
    ----------
    classes : tuple of str
        Names of the C labels.
    """

    score = "accuracy"
    higher_is_better = True
    classes: tuple[str, ...]

    def loss(
        self, model: Callable[..., Any], batch: Batch, state: State | None
    ) -> tuple[Tensor, State | None]:
        """Mean cross-entropy in nats."""
        return model(*batch), None

    def evaluate(self, model: torch.nn.Module, split: str) -> dict[str, float]:
        """Accuracy, and mean cross-entropy in nats."""
        loss, right, count = 0.0, 0, 0
        for logits, targets in self._labelled(model, split):
            loss += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
            right += int((logits.argmax(-1) == targets).sum())
            count += len(targets)
        return {"accuracy": right / count, "loss": loss / count}

    def confusion(self, model: torch.nn.Module, split: str) -> Tensor:
        """How often a class, down, was taken for a class, across; int64 of shape (C, C)."""
        size = len(self.classes)
        counts = torch.zeros(size * size, dtype=torch.int64)
        for logits, targets in self._labelled(model, split):
            pairs = targets * size + logits.argmax(-1)
            counts += pairs.cpu().bincount(minlength=size * size)
        return counts.view(size, size)

    def report(self, model: torch.nn.Module, split: str) -> str:
        """Of every class, how many there are and the share of them that is found."""
        counts = self.confusion(model, split)
        width = max(map(len, self.classes))
        rows = zip(self.classes, counts.sum(1).tolist(), counts.diagonal().tolist(), strict=True)
        return "\n".join(
            f"{name:{width}}  {total:6,}  " + (f"{right / total:.4f}" if total else "none")
            for name, total, right in rows
        )

    @classmethod
    def show(cls, run: Run, plots: Path) -> str:
        """A picture of which classes of the test part were taken for which."""
        task = cls.load(run.config, run.vocabularies)  # type: ignore[arg-type]
        counts = task.confusion(run.load_model(), "test")
        shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
        plot_heatmap(
            plots / "confusion.png",
            shares,
            task.classes,
            task.classes,
            xlabel="found",
            ylabel="true",
            label="share of the row",
        )
        return ""

    def _labelled(self, model: torch.nn.Module, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits (M, C) and targets (M,) of a part's labels, block by block."""
        device = next(model.parameters()).device
        with evaluating(model):
            for tokens, lengths, targets in self.blocks(split, device):
                logits = model(tokens, lengths)
                if targets.dim() == 2:
                    kept = torch.arange(len(tokens), device=device)[:, None] < lengths
                    logits, targets = logits[kept], targets[kept]
                yield logits, targets


def decide(config: C, **sizes: Any) -> C:
    """Settings with what the data decides; ValueError if they have another size than 0."""
    for name, size in sizes.items():
        if getattr(config, name) not in (0, size):
            raise ValueError(
                f"{name} is {size} by {config.data or 'the data'}, {getattr(config, name)} in the "
                "settings"
            )
    return replace(config, **sizes)


def checksum(*tensors: Tensor) -> int:
    """CRC-32 of the tensors' bytes, one after the other."""
    value = 0
    for tensor in tensors:
        value = zlib.crc32(tensor.contiguous().numpy().data, value)
    return value


def _to(device: torch.device, batch: Any) -> Batch:
    tokens, lengths, labels = (tensor.to(device) for tensor in batch)
    return tokens, lengths, labels
