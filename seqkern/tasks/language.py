"""Language models: the next word or character of a text."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from seqkern.data import (
    LEVELS,
    Corpus,
    RandomBatches,
    SequentialBatches,
    VariableLengthBatches,
    Vocabulary,
    detokenize,
    evaluation_blocks,
    load_corpus,
    tokenize,
)
from seqkern.data.text import EOS, UNK
from seqkern.models import CELLS, MODELS, AwdRnnlm, CharRnn, generate
from seqkern.tasks import _models
from seqkern.training.config import RunConfig, setting
from seqkern.training.run import Run
from seqkern.training.state import State
from seqkern.training.task import Batches, Task, evaluating, part_of_batch

TOKENS = "tokens"  # name of the vocabulary

LANGUAGE_MODELS: dict[str, type[torch.nn.Module]] = {
    **MODELS,
    "char-rnn": CharRnn,
    "awd-rnnlm": AwdRnnlm,
}
"""Model classes by name."""


@dataclass(frozen=True)
class LanguageConfig(RunConfig):
    """Settings of a language model; the defaults are those of the preset rnnlm."""

    optimizer: str = "sgd"
    lr: float = 20.0
    lr_decay: float = 4.0
    clip: float | None = 0.25
    epochs: int = 4
    model: str = setting("rnnlm", "which model", choices=tuple(LANGUAGE_MODELS))
    cell: str | None = setting(None, "recurrent cell (default: by the model)", choices=CELLS)
    embed_size: int = setting(100, "numbers of an embedding, D", at_least=1)
    hidden_size: int = setting(100, "numbers of a recurrent state, H", at_least=1)
    num_layers: int = setting(1, "recurrent layers", at_least=1)
    dropout: float = setting(0.0, "probability of dropping an element", at_least=0, below=1)
    tied: bool = setting(False, "use the embedding's matrix for the output")
    embedding_dropout: float = setting(0.0, "probability of dropping a word", at_least=0, below=1)
    input_dropout: float = setting(
        0.0, "of dropping a number of an embedding in all steps", at_least=0, below=1
    )
    hidden_dropout: float = setting(0.0, "likewise between layers", at_least=0, below=1)
    weight_drop: float = setting(
        0.0, "probability of dropping an element of weight_hh", at_least=0, below=1
    )
    alpha: float = setting(0.0, "factor of the penalty of large outputs", at_least=0)
    beta: float = setting(0.0, "factor of the penalty of outputs that change", at_least=0)
    vocab_size: int = setting(0, "rows of the embedding, 0 until it is known", decided=True)
    level: str | None = setting(
        None, "what a token is (text: punctuation apart; default: by the data)", choices=LEVELS
    )
    max_words: int | None = setting(None, "train on the first N tokens only", at_least=1)
    max_vocabulary: int | None = setting(
        None, "most frequent tokens to keep, with <unk>", at_least=2
    )
    steps: int = setting(35, "steps of truncated back-propagation, T", at_least=1)
    batching: str = setting(
        "sequential",
        "state carried from batch to batch, of which each has its own length where variable; "
        "or reset for random windows",
        choices=("sequential", "variable", "random"),
    )
    eval_batch_size: int = setting(10, "lanes of an evaluation", at_least=1, evaluation=True)
    eval_steps: int = setting(35, "steps of an evaluation's block", at_least=1, evaluation=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _models.check(LANGUAGE_MODELS, self)


class LanguageTask(Task[LanguageConfig]):
    """A language model's training on a corpus.

    Parameters
    ----------
    config : LanguageConfig
    corpus : Corpus
        Decides `level` and `vocab_size` of the settings.

    Raises
    ------
    ValueError
        If the settings have a `vocab_size` that is not the corpus's.
    """

    family = "lm"
    Config = LanguageConfig
    sources = ("pydoc",)
    score = "perplexity"
    unit = "tokens"

    def __init__(self, config: LanguageConfig, corpus: Corpus) -> None:
        size = len(corpus.vocabulary)
        if config.vocab_size not in (0, size):
            raise ValueError(
                f"vocabulary mismatch: {size:,} tokens in that of {config.data or 'the corpus'}, "
                f"{config.vocab_size:,} in the model's"
            )
        self.config = replace(config, level=corpus.level, vocab_size=size)
        self.corpus = corpus
        self.vocabularies = {TOKENS: corpus.vocabulary}
        self.checksum = zlib.crc32(corpus.train.contiguous().numpy().data)

    @classmethod
    def load(
        cls, config: LanguageConfig, vocabularies: Mapping[str, Vocabulary] | None = None
    ) -> LanguageTask:
        """Read the text that `config.data` names (`seqkern.data.load_corpus`)."""
        corpus = load_corpus(
            config.data,
            config.level,
            max_words=config.max_words,
            max_vocabulary=config.max_vocabulary,
            vocabulary=(vocabularies or {}).get(TOKENS),
        )
        return cls(config, corpus)

    @staticmethod
    def build_model(config: LanguageConfig) -> torch.nn.Module:
        """The model of the settings, freshly initialised from torch's global generator."""
        return _models.build(LANGUAGE_MODELS, config)

    @property
    def summary(self) -> str:
        """Model, tokens, vocabulary."""
        return (
            f"{self.config.model} on {self.config.data}: {len(self.corpus.train):,} training "
            f"tokens, vocabulary {self.config.vocab_size:,}"
        )

    @property
    def items(self) -> int:
        """Tokens of a batch."""
        return self.config.batch_size * self.config.steps

    def batches(self, device: torch.device, rank: int = 0, world: int = 1) -> Batches:
        """Inputs and targets, (T, N / world) each."""
        config = self.config
        if config.monitor == "valid":  # texts too short are told before training
            for text in (self.corpus.valid, self.corpus.test):
                evaluation_blocks(text, config.eval_batch_size, config.eval_steps)
        return _Lanes(config, self.corpus.train.to(device), rank, world)

    def loss(
        self, model: Callable[..., Any], batch: tuple[Tensor, Tensor], state: State | None
    ) -> tuple[Tensor, State | None]:
        """Mean cross-entropy in nats."""
        inputs, targets = batch
        return model(inputs, state, targets)

    def share(self, batch: tuple[Tensor, Tensor]) -> float:
        """Steps of the batch by those of the settings."""
        return len(batch[0]) / self.config.steps

    def training_scores(self, loss: float) -> dict[str, float]:
        """Perplexity."""
        return {"perplexity": perplexity(loss)}

    def evaluate(self, model: torch.nn.Module, split: str) -> dict[str, float]:
        """Perplexity, see `evaluate`."""
        config, text = self.config, self.corpus.split(split)
        return {"perplexity": evaluate(model, text, config.eval_batch_size, config.eval_steps)}

    @classmethod
    def show(cls, run: Run, plots: Path) -> str:
        """A text of 100 tokens."""
        config, vocabularies = cast(LanguageConfig, run.config), run.vocabularies
        if not vocabularies:  # of an imported model
            if not config.data:
                return ""
            vocabularies = cls.load(config).vocabularies
        vocabulary, level = vocabularies[TOKENS], config.level or "word"
        start = [t for t in start_of_line(level) if t in vocabulary] or [vocabulary.tokens[0]]
        ids = generate(
            run.load_model(),
            vocabulary.encode(start).tolist(),
            100,
            temperature=0.8,
            skip=vocabulary.encode([t for t in (UNK,) if t in vocabulary]).tolist(),
            generator=torch.Generator().manual_seed(config.seed),
        )
        return detokenize(vocabulary.decode(ids), level)


class _Lanes:
    """One process's lanes of every batch."""

    def __init__(self, config: LanguageConfig, text: Tensor, rank: int, world: int) -> None:
        sizes = (text, config.batch_size, config.steps)
        self.whole: SequentialBatches | RandomBatches
        if config.batching == "random":
            self.whole = RandomBatches(*sizes, config.seed)
        elif config.batching == "variable":
            self.whole = VariableLengthBatches(*sizes, config.seed)
        else:
            self.whole = SequentialBatches(*sizes)
        self.part = part_of_batch(config.batch_size, rank, world)
        self.carries_state = self.whole.carries_state

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def position(self) -> int:
        return self.whole.position

    @position.setter
    def position(self, position: int) -> None:
        self.whole.position = position

    def next(self) -> tuple[Tensor, Tensor]:
        inputs, targets = self.whole.next()
        return inputs[:, self.part], targets[:, self.part]


def perplexity(mean_loss: float) -> float:
    """exp(mean loss in nats), infinite where that overflows.

    Examples
    --------
    >>> round(perplexity(math.log(20)), 9)
    20.0
    """
    try:
        return math.exp(mean_loss)
    except OverflowError:
        return math.inf


def evaluate(
    model: torch.nn.Module, tokens: Tensor, batch_size: int = 10, steps: int = 35
) -> float:
    """Perplexity by the procedure of "Deep Learning from Scratch 2".

    The text is read in `batch_size` lanes (`seqkern.data.evaluation_blocks`), `steps` tokens a
    block, the state carried from block to block; the perplexity is exp(mean of the blocks' mean
    losses).

    Parameters
    ----------
    model : torch.nn.Module
        One of `LANGUAGE_MODELS`. Evaluated without dropout; its training mode is restored.
    tokens : Tensor
        int64, shape (length,).
    batch_size, steps : int

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the text is too short for one block.

    Examples
    --------
    >>> model = CharRnn(vocab_size=50)
    >>> 45 < evaluate(model, torch.randint(50, (1000,))) < 55
    True
    """
    device = next(model.parameters()).device
    blocks = evaluation_blocks(tokens.to(device), batch_size, steps)
    total = torch.zeros((), dtype=torch.float64, device=device)
    count, state = 0, None
    with evaluating(model):
        for inputs, targets in blocks:
            loss, state = model(inputs, state, targets)
            total += loss
            count += 1
    return perplexity(total.item() / count)


def prompt_tokens(text: str, level: str) -> list[str]:
    """Tokens of a prompt, without a final `<eos>`; an empty prompt is the end of a line.

    Examples
    --------
    >>> prompt_tokens("the cat", "word"), prompt_tokens("It is!", "letters")
    (['the', 'cat'], ['i', 't', ' ', 'i', 's'])
    """
    tokens = tokenize(text, level)
    if tokens and tokens[-1] == EOS:
        tokens.pop()
    return tokens or start_of_line(level)


def start_of_line(level: str) -> list[str]:
    """What stands before a line: the end of another, or of a word where there are no lines."""
    return [{"char": "\n", "letters": " "}.get(level, EOS)]
