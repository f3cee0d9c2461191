"""Sequence to sequence: sums, dates, and other pairs of a question and its answer."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from seqkern.data import (
    SequencePairs,
    Vocabulary,
    addition_questions,
    date_questions,
    read_questions,
    read_token_pairs,
)
from seqkern.models import AttentionSeq2seq, PeekySeq2seq, Seq2seq, TransformerSeq2seq
from seqkern.models.seq2seq import EncoderDecoder
from seqkern.training.config import RunConfig, setting
from seqkern.training.state import State
from seqkern.training.task import ExampleBatches, Task, evaluating

SOURCE, TARGET = "source", "target"  # names of the vocabularies
GENERATED = {"addition": addition_questions, "dates": date_questions}
RECURRENT = {
    "seq2seq": Seq2seq,
    "peeky-seq2seq": PeekySeq2seq,
    "attention-seq2seq": AttentionSeq2seq,
}
TRANSFORMER = "transformer"


@dataclass(frozen=True)
class Seq2seqConfig(RunConfig):
    """Settings of a sequence to sequence model; the defaults are those of the preset addition."""

    batch_size: int = 128
    clip: float | None = 5.0
    epochs: int = 25
    model: str = setting("seq2seq", "which model", choices=(*RECURRENT, TRANSFORMER))
    embed_size: int = setting(16, "numbers of an embedding, D", at_least=1)
    hidden_size: int = setting(
        128, "numbers of a recurrent state, H; units of a transformer's feed-forward parts", at_least=1
    )
    num_layers: int = setting(1, "layers of the encoder, and of the decoder", at_least=1)
    cell: str = setting("lstm", "of the recurrent layers", choices=("lstm", "gru", "rnn"))
    dropout: float = setting(0.0, "probability of dropping an element", at_least=0, below=1)
    bidirectional: bool = setting(False, "read the source in both directions")
    residual: bool = setting(False, "add the input of each recurrent layer but the first to its output")
    num_heads: int = setting(4, "heads of a transformer's attention", at_least=1)
    reversed: bool = setting(False, "read the source from its last token to its first")
    mask_padding: bool = setting(
        False, "cut off the spaces that fill up questions and answers, instead of learning them"
    )
    questions: int = setting(50_000, "how many addition and dates make", at_least=10)
    valid_share: float = setting(
        0.02, "share of the questions for validation, taken from training", above=0, below=0.9
    )
    eval_batch_size: int = setting(
        1000, "questions of an evaluation's batch", at_least=1, evaluation=True
    )
    level: str | None = setting(
        None, "what a token is: a character, or what blanks divide", choices=("char", "token"), decided=True
    )
    source_vocab_size: int = setting(0, "tokens of sources, 0 until known", decided=True)
    target_vocab_size: int = setting(0, "tokens of targets, 0 until known", decided=True)
    source_length: int = setting(0, "of the longest source, 0 until known", decided=True)
    target_length: int = setting(
        0, "of the longest target, its start token not counted, 0 until known", decided=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        recurrent_only = ("cell", "bidirectional", "residual")
        for name in recurrent_only if self.model == TRANSFORMER else ("num_heads",):
            value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            if value != default:
                raise ValueError(f"model {self.model} takes no {name}, got {value}")


class Seq2seqTask(Task[Seq2seqConfig]):
    """Training of a sequence to sequence model on pairs.

    The last tenth of the pairs, in the order of "Deep Learning from Scratch 2", is for the test.

    Parameters
    ----------
    config : Seq2seqConfig
    pairs : SequencePairs
        Sources in their natural order. They decide sizes and lengths of the settings.

    Raises
    ------
    ValueError
        If the settings have sizes of vocabularies, or, where padding is learned, lengths that are
        not those of the pairs.
    """

    family = "seq2seq"
    Config = Seq2seqConfig
    sources = tuple(GENERATED)
    score = "accuracy"
    higher_is_better = True
    unit = "questions"

    def __init__(self, config: Seq2seqConfig, pairs: SequencePairs) -> None:
        found = {
            "source_vocab_size": len(pairs.source_vocabulary),
            "target_vocab_size": len(pairs.target_vocabulary),
            "source_length": len(pairs.source),
            "target_length": len(pairs.target) - 1,
        }
        for name, value in found.items():
            known = getattr(config, name)
            if known not in (0, value) and (name.endswith("size") or pairs.end is None):
                raise ValueError(
                    f"{config.data or 'the data'} does not fit the model: {name} is {value}, "
                    f"the model's {known}"
                )
        known_lengths = {n: getattr(config, n) or v for n, v in found.items()}
        self.config = replace(config, **known_lengths)
        self.vocabularies = {SOURCE: pairs.source_vocabulary, TARGET: pairs.target_vocabulary}
        self.pairs = (pairs.reversed() if config.reversed else pairs).split(valid=config.valid_share)
        train = self.pairs["train"]
        self.checksum = zlib.crc32(
            train.target.contiguous().numpy().data,
            zlib.crc32(train.source.contiguous().numpy().data),
        )

    @classmethod
    def load(
        cls, config: Seq2seqConfig, vocabularies: Mapping[str, Vocabulary] | None = None
    ) -> Seq2seqTask:
        """Make or read the pairs that `config.data` names.

        A file whose first line has a tab is one of token pairs (`seqkern.data.read_token_pairs`),
        every other one of questions (`seqkern.data.read_questions`).
        """
        known = vocabularies or {}
        if config.data in GENERATED:
            level, pairs = "char", GENERATED[config.data](config.questions)
        else:
            level, pairs = _read_pairs(config.data)
        if config.level not in (None, level):
            raise ValueError(f"{config.data} is of level {level}, the model of {config.level}")
        try:
            if level == "char":
                encoded = SequencePairs.from_questions(
                    pairs, known.get(SOURCE), config.mask_padding
                )
            else:
                encoded = SequencePairs.from_tokens(pairs, known.get(SOURCE), known.get(TARGET))
        except ValueError as error:
            raise ValueError(f"{config.data}: {error}") from error
        return cls(replace(config, level=level), encoded)

    @staticmethod
    def build_model(config: Seq2seqConfig) -> EncoderDecoder:
        """The model of the settings, freshly initialised from torch's global generator."""
        if config.model == TRANSFORMER:
            return TransformerSeq2seq(
                config.source_vocab_size,
                config.embed_size,
                config.target_vocab_size,
                num_layers=config.num_layers,
                num_heads=config.num_heads,
                feedforward_size=config.hidden_size,
                dropout=config.dropout,
                backend=config.backend,
            )
        return RECURRENT[config.model](
            config.source_vocab_size,
            config.embed_size,
            config.hidden_size,
            config.target_vocab_size,
            num_layers=config.num_layers,
            cell=config.cell,
            dropout=config.dropout,
            bidirectional=config.bidirectional,
            residual=config.residual,
            backend=config.backend,
        )

    @property
    def summary(self) -> str:
        """Model, questions, vocabularies."""
        config, sizes = self.config, [len(v) for v in self.vocabularies.values()]
        return (
            f"{config.model}{' (reversed)' * config.reversed} on {config.data}: "
            f"{len(self.pairs['train']):,} training questions, vocabularies {sizes[0]:,} and "
            f"{sizes[1]:,}"
        )

    def batches(self, device: torch.device, rank: int = 0, world: int = 1) -> ExampleBatches:
        """Pairs, N / world at a time."""
        for split, pairs in self.pairs.items():
            if not len(pairs):
                raise ValueError(f"too little data: no {split} questions")
        train, config = self.pairs["train"].to(device), self.config
        return ExampleBatches(
            len(train),
            config.batch_size,
            lambda indices: train.select(indices.to(device)),
            config.seed,
            rank,
            world,
        )

    def loss(
        self, model: Callable[..., Any], batch: SequencePairs, state: State | None
    ) -> tuple[Tensor, None]:
        """Mean cross-entropy of the targets' tokens in nats."""
        return model(batch.source, batch.target, batch.lengths), None

    def evaluate(self, model: torch.nn.Module, split: str) -> dict[str, float]:
        """Share of the questions whose whole answer is right, and the loss."""
        pairs, size = self.pairs[split], self.config.eval_batch_size
        model = cast(EncoderDecoder, model)
        right = answer(model, pairs, size).right
        return {
            "accuracy": right.double().mean().item(),
            "loss": mean_loss(model, pairs, size),
        }
