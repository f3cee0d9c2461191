"""A tag for every token: many to many, aligned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from seqkern.data import TagData, Vocabulary, load_tags
from seqkern.data.tags import baselines
from seqkern.models import BiLstmTagger
from seqkern.tasks.padded import CELLS, LabelTask, checksum, decide
from seqkern.training.config import RunConfig, setting
from seqkern.training.progress import figures

TOKENS, TAGS = "tokens", "tags"  # names of the vocabularies


@dataclass(frozen=True)
class TaggingConfig(RunConfig):
    """Settings of a tagger; the defaults are those of the preset restoration."""

    batch_size: int = 32
    lr: float = 0.005
    schedule: str = "linear"
    epochs: int = 12
    text: bool = setting(
        False, "the data is plain text, whose punctuation and capitals become tags"
    )
    max_vocabulary: int | None = setting(
        None, "most frequent tokens to keep, with <unk>", at_least=2
    )
    valid: float = setting(0.1, "share of one file's sentences for validation", at_least=0, below=1)
    test: float = setting(0.1, "share of one file's sentences for the test", at_least=0, below=1)
    embed_size: int = setting(64, "numbers of a token's vector, D", at_least=1)
    hidden_size: int = setting(128, "numbers of a state of each direction, H", at_least=1)
    num_layers: int = setting(1, "recurrent layers", at_least=1)
    cell: str = setting("lstm", "recurrent layer", choices=CELLS)
    bidirectional: bool = setting(True, "read the sentence from its end, too")
    dropout: float = setting(0.5, "probability of dropping an element", at_least=0, below=1)
    vocab_size: int = setting(0, "tokens, 0 until it is known", decided=True)
    num_tags: int = setting(0, "tags, 0 until it is known", decided=True)


class TaggingTask(LabelTask[TaggingConfig]):
    """A tagger's training on tagged sentences.

    Parameters
    ----------
    config : TaggingConfig
    data : TagData
        Decides `vocab_size` and `num_tags` of the settings.

    Raises
    ------
    ValueError
        If the settings have other sizes than the data.
    """

    family = "tags"
    Config = TaggingConfig
    sources = ("pydoc",)
    unit = "sentences"
    data: TagData

    def __init__(self, config: TaggingConfig, data: TagData) -> None:
        self.config = decide(config, vocab_size=len(data.vocabulary), num_tags=len(data.tags))
        self.data, self.classes = data, data.tags
        self.vocabularies = {TOKENS: data.vocabulary, TAGS: Vocabulary(data.tags)}
        self.checksum = checksum(data.train.tokens, data.train.tags)

    @classmethod
    def load(
        cls, config: TaggingConfig, vocabularies: Mapping[str, Vocabulary] | None = None
    ) -> TaggingTask:
        """Read the sentences of `config.data` (`seqkern.data.load_tags`)."""
        known = vocabularies or {}
        tags = known.get(TAGS)
        data = load_tags(
            config.data,
            text=config.text,
            max_vocabulary=config.max_vocabulary,
            valid=config.valid,
            test=config.test,
            seed=config.seed,
            vocabulary=known.get(TOKENS),
            tags=None if tags is None else tags.tokens,
        )
        return cls(config, data)

    @staticmethod
    def build_model(config: TaggingConfig) -> BiLstmTagger:
        """The model of the settings, freshly initialised from torch's global generator."""
        return BiLstmTagger(
            config.vocab_size,
            config.num_tags,
            config.embed_size,
            config.hidden_size,
            config.num_layers,
            config.cell,
            config.bidirectional,
            config.dropout,
            config.backend,
        )

    @property
    def summary(self) -> str:
        """Model, sentences, tags."""
        return (
            f"tagger on {self.config.data}: {len(self.data.train):,} sentences for training, "
            f"{self.config.num_tags} tags"
        )

    def report(self, model: torch.nn.Module, split: str) -> str:
        """Accuracy of every tag, and of tagging without regard to other tokens."""
        lines = super().report(model, split)
        return f"{lines}\nbaselines: {figures(baselines(self.data, split))}"
