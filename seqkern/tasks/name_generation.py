"""Generation of names, of a class or without one: one to many."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from seqkern.analysis.figures import plot_lines
from seqkern.data import NameData, Names, Vocabulary
from seqkern.models import NameGenerator
from seqkern.tasks.language import perplexity
from seqkern.tasks.names import CHARACTERS, CLASSES, NameDataConfig, read_names
from seqkern.tasks.padded import Batch, PaddedTask, checksum, decide
from seqkern.training.config import setting
from seqkern.training.run import Run
from seqkern.training.state import State
from seqkern.training.task import evaluating

SAMPLES, SHOWN = 1000, 20  # drawn and printed by `seqkern show`
TEMPERATURE = 0.8


@dataclass(frozen=True)
class NameGenerationConfig(NameDataConfig):
    """Settings of a generator; the defaults are those of the preset names-transliterated."""

    lr: float = 0.002
    epochs: int = 10
    hidden_size: int = 256
    dropout: float = 0.3
    embed_size: int = setting(64, "numbers of a character's vector, D", at_least=1)
    condition_size: int = setting(16, "numbers of a class's vector", at_least=1)


class NameGenerationTask(PaddedTask[NameGenerationConfig]):
    """A generator's training on names; conditional on their classes, where they have classes.

    Parameters
    ----------
    config : NameGenerationConfig
    data : NameData
        Decides `vocab_size` and `num_classes` of the settings.

    Raises
    ------
    ValueError
        If the settings have other sizes than the data.
    """

    family = "name-generation"
    Config = NameGenerationConfig
    score = "perplexity"
    unit = "names"
    data: NameData

    def __init__(self, config: NameGenerationConfig, data: NameData) -> None:
        self.config = decide(config, vocab_size=len(data.vocabulary), num_classes=len(data.classes))
        self.data = data
        self.vocabularies = {CHARACTERS: data.vocabulary}
        if data.classes:
            self.vocabularies[CLASSES] = Vocabulary(data.classes)
        self.checksum = checksum(data.train.tokens, data.train.labels)

    @classmethod
    def load(
        cls, config: NameGenerationConfig, vocabularies: Mapping[str, Vocabulary] | None = None
    ) -> NameGenerationTask:
        """Read the names of `config.data` (`seqkern.data.load_names`)."""
        data = read_names(config, vocabularies)
        if vocabularies and CLASSES not in vocabularies:  # the model knows of none
            data = replace(data, classes=())
        return cls(config, data)

    @staticmethod
    def build_model(config: NameGenerationConfig) -> NameGenerator:
        """The model of the settings, freshly initialised from torch's global generator."""
        return NameGenerator(
            config.vocab_size,
            config.num_classes,
            config.embed_size,
            config.condition_size,
            config.hidden_size,
            config.cell,
            config.num_layers,
            config.dropout,
            config.backend,
        )

    @property
    def summary(self) -> str:
        """Model, names, classes."""
        classes = self.config.num_classes
        return (
            f"generator of names on {self.config.data}: {len(self.data.train):,} for training, "
            + (f"{classes} classes" if classes else "no classes")
        )

    def loss(
        self, model: Callable[..., Any], batch: Batch, state: State | None
    ) -> tuple[Tensor, State | None]:
        """Mean cross-entropy in nats of a character or end."""
        tokens, lengths, labels = batch
        return model(tokens, lengths, labels if self.config.num_classes else None), None

    def training_scores(self, loss: float) -> dict[str, float]:
        """Perplexity."""
        return {"perplexity": perplexity(loss)}

    def evaluate(self, model: torch.nn.Module, split: str) -> dict[str, float]:
        """Perplexity a character, the ends of the names counted as characters."""
        total, count = 0.0, 0
        device = next(model.parameters()).device
        with evaluating(model):
            for batch in self.blocks(split, device):
                characters = int((batch[1] + 1).sum())
                total += self.loss(model, batch, None)[0].item() * characters
                count += characters
        return {"perplexity": perplexity(total / count)}

    @classmethod
    def show(cls, run: Run, plots: Path) -> str:
        """Samples, and how many of more samples are no names of the training.

        The classes of the samples, where there are classes, are those of names drawn from the
        training.
        """
        config = cast(NameGenerationConfig, run.config)
        task = cls.load(config, run.vocabularies)
        generator = torch.Generator().manual_seed(config.seed)
        condition = None
        if config.num_classes:
            labels = task.data.train.labels
            condition = labels[torch.randint(len(labels), (SAMPLES,), generator=generator)]
        names = sample_names(
            cast(NameGenerator, run.load_model()),
            SAMPLES,
            task.data.vocabulary,
            condition,
            temperature=TEMPERATURE,
            generator=generator,
        )
        known = spelled(task.data.train, task.data.vocabulary)
        _plot_lengths(plots / "lengths.png", {"generated": names, "for training": known})
        shown = names[:SHOWN]
        if condition is not None:
            labels_shown = (task.data.classes[i] for i in condition[:SHOWN].tolist())
            shown = [f"{n} ({label})" for n, label in zip(shown, labels_shown, strict=True)]
        return "\n".join(shown) + (
            f"\nof {SAMPLES} samples at temperature {TEMPERATURE}, {novelty(names, known):.1%} are "
            f"no names of the training, {len(set(names))} are different"
        )


def sample_names(
    model: NameGenerator,
    count: int,
    vocabulary: Vocabulary,
    condition: Tensor | None = None,
    **options: Any,
) -> list[str]:
    """Names drawn from a model.

    Parameters
    ----------
    model : NameGenerator
    count : int
        N.
    vocabulary : Vocabulary
        Of the characters.
    condition : Tensor, optional
        int64, shape (N,): their classes.
    options
        Further arguments of `NameGenerator.sample`.

    Examples
    --------
    >>> names = sample_names(NameGenerator(3), 5, Vocabulary("abc"), max_length=4)
    >>> len(names), max(map(len, names)) <= 4
    (5, True)
    """
    device = next(model.parameters()).device
    if condition is not None:
        condition = condition.to(device)
    tokens, lengths = model.sample(count, condition, **options)
    return _spell(tokens, lengths, vocabulary)


def spelled(names: Names, vocabulary: Vocabulary) -> list[str]:
    """Names as a model sees them, of the vocabulary's characters alone."""
    return _spell(names.tokens, names.lengths, vocabulary)


def _spell(tokens: Tensor, lengths: Tensor, vocabulary: Vocabulary) -> list[str]:
    rows = zip(tokens.T.tolist(), lengths.tolist(), strict=True)
    return ["".join(vocabulary.decode(row[:length])) for row, length in rows]


def novelty(names: Sequence[str], known: Collection[str]) -> float:
    """Share of the names that are not among those known.

    Examples
    --------
    >>> novelty(["anna", "annia", "annia", "otto"], ["anna", "otto", "eva"])
    0.5
    """
    before = set(known)
    return sum(name not in before for name in names) / len(names)


def _plot_lengths(path: Path, names: Mapping[str, Sequence[str]]) -> None:
    """Shares of the lengths of each group of names, as steps."""
    lengths = {label: torch.tensor([len(n) for n in group]) for label, group in names.items()}
    longest = max(int(found.max()) for found in lengths.values())
    plot_lines(
        path,
        {
            label: (torch.arange(longest + 1), found.bincount(minlength=longest + 1) / len(found))
            for label, found in lengths.items()
        },
        xlabel="characters",
        ylabel="share of the names",
    )
