"""Classification of names by their characters: many to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from seqkern.data import NameData, Vocabulary, load_names
from seqkern.data.names import UNKNOWN, encode_names
from seqkern.models import NameClassifier
from seqkern.tasks.padded import CELLS, LabelTask, checksum, decide
from seqkern.training.config import RunConfig, setting
from seqkern.training.task import evaluating

CHARACTERS, CLASSES = "characters", "classes"  # names of the vocabularies


@dataclass(frozen=True)
class NameDataConfig(RunConfig):
    """Settings of data and recurrent layers that the tasks on names share."""

    batch_size: int = 64
    schedule: str = "linear"
    clip: float | None = 5.0
    lower: bool = setting(False, "make all letters small")
    max_characters: int | None = setting(
        None, "most frequent characters to keep (default: all)", at_least=1
    )
    unknown: str = setting("map", "make other characters <unk>, or drop them", choices=UNKNOWN)
    valid: float = setting(0.1, "share of the names for validation", at_least=0, below=1)
    test: float = setting(0.1, "share of the names for the test", at_least=0, below=1)
    hidden_size: int = setting(128, "numbers of a recurrent state, H", at_least=1)
    cell: str = setting("lstm", "recurrent layer", choices=CELLS)
    num_layers: int = setting(1, "recurrent layers", at_least=1)
    dropout: float = setting(0.0, "probability of dropping an element", at_least=0, below=1)
    vocab_size: int = setting(0, "characters, 0 until it is known", decided=True)
    num_classes: int = setting(0, "classes, 0 until it is known", decided=True)


@dataclass(frozen=True)
class NamesConfig(NameDataConfig):
    """Settings of a classifier of names; the defaults are those of the preset names-gender."""

    lr: float = 0.005
    epochs: int = 25
    lower: bool = True
    dropout: float = 0.5
    embed_size: int | None = setting(
        32, "numbers of a character's vector, D (none: one-hot)", at_least=1
    )
    bidirectional: bool = setting(True, "read the name from its end, too")


class NamesTask(LabelTask[NamesConfig]):
    """A classifier's training on names with classes.

    Parameters
    ----------
    config : NamesConfig
    data : NameData
        Decides `vocab_size` and `num_classes` of the settings.

    Raises
    ------
    ValueError
        If the settings have other sizes than the data, or the names no classes.
    """

    family = "names"
    Config = NamesConfig
    unit = "names"
    data: NameData

    def __init__(self, config: NamesConfig, data: NameData) -> None:
        if not data.classes:
            raise ValueError(f"the names of {config.data or 'the data'} have no classes")
        self.config = decide(config, vocab_size=len(data.vocabulary), num_classes=len(data.classes))
        self.data, self.classes = data, data.classes
        self.vocabularies = {CHARACTERS: data.vocabulary, CLASSES: Vocabulary(data.classes)}
        self.checksum = checksum(data.train.tokens, data.train.labels)

    @classmethod
    def load(
        cls, config: NamesConfig, vocabularies: Mapping[str, Vocabulary] | None = None
    ) -> NamesTask:
        """Read the names of `config.data` (`seqkern.data.load_names`)."""
        return cls(config, read_names(config, vocabularies))

    @staticmethod
    def build_model(config: NamesConfig) -> NameClassifier:
        """The model of the settings, freshly initialised from torch's global generator."""
        return NameClassifier(
            config.vocab_size,
            config.num_classes,
            config.embed_size,
            config.hidden_size,
            config.cell,
            config.num_layers,
            config.bidirectional,
            config.dropout,
            backend=config.backend,
        )

    @property
    def summary(self) -> str:
        """Model, names, classes."""
        return (
            f"classifier of names on {self.config.data}: {len(self.data.train):,} for training, "
            f"{self.config.num_classes} classes"
        )

    def report(self, model: torch.nn.Module, split: str) -> str:
        """Accuracy of every class; and the greatest possible, where names have several classes."""
        lines = super().report(model, split)
        bound = getattr(self.data, split).accuracy_bound
        if bound < 1:
            lines += f"\nsome names have several classes: at most {bound:.4f} can be right"
        return lines


def read_names(
    config: NameDataConfig, vocabularies: Mapping[str, Vocabulary] | None = None
) -> NameData:
    """The names of `config.data`, numbered by a run's vocabularies if there are any."""
    known = vocabularies or {}
    classes = known.get(CLASSES)
    return load_names(
        config.data,
        lower=config.lower,
        max_characters=config.max_characters,
        unknown=config.unknown,
        valid=config.valid,
        test=config.test,
        seed=config.seed,
        vocabulary=known.get(CHARACTERS),
        classes=None if classes is None else classes.tokens,
    )


def classify(
    model: torch.nn.Module,
    names: Sequence[str],
    vocabularies: Mapping[str, Vocabulary],
    lower: bool = False,
) -> list[tuple[str, float]]:
    """The most probable class of every name, and its probability.

    Parameters
    ----------
    model : NameClassifier
    names : sequence of str
    vocabularies : mapping of str to Vocabulary
        "characters" and "classes", as a run has them.
    lower : bool
        Whether to make all letters small, as in the model's training.

    Raises
    ------
    ValueError
        If a name has no character of the vocabulary.

    Examples
    --------
    >>> vocabularies = {"characters": Vocabulary("abc"), "classes": Vocabulary(["f", "m"])}
    >>> ((label, probability),) = classify(NameClassifier(3, 2), ["abba"], vocabularies)
    >>> label in ("f", "m"), 0.5 <= probability < 1
    (True, True)
    """
    device = next(model.parameters()).device
    tokens, lengths = encode_names(names, vocabularies[CHARACTERS], lower)
    with evaluating(model):
        probabilities = model(tokens.to(device), lengths.to(device)).softmax(-1)
    best, labels = (result.tolist() for result in probabilities.max(-1))
    return list(zip(vocabularies[CLASSES].decode(labels), best, strict=True))
