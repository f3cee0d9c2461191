"""Word vectors through autograd: "Deep Learning from Scratch 2", chapter 4."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from seqkern.data import Corpus, Vocabulary, load_corpus
from seqkern.data.contexts import seeded_generator
from seqkern.models.cbow import CBOW, WORD_MODELS
from seqkern.models.layers import evaluating
from seqkern.nn import UnigramSampler
from seqkern.training.config import RunConfig, setting
from seqkern.training.run import Run
from seqkern.training.state import State
from seqkern.training.task import ExampleBatches, Task
from seqkern.training.word_run import VECTORS, is_binary
from seqkern.vectors import KeyedVectors

WORDS = "words"  # name of the vocabulary


@dataclass(frozen=True)
class WordConfig(RunConfig):
    """Settings of word vectors; the defaults are those of the book.

    Its Adam has an eps of 1e-7, which matters to rare words, whose second moments fade between
    their batches.
    """

    batch_size: int = 100
    eps: float = 1e-7
    monitor: str = "train"
    model: str = setting("cbow", "which model", choices=tuple(WORD_MODELS))
    hidden_size: int = setting(100, "numbers of a vector, D", at_least=1)
    window: int = setting(5, "words of a context on each side", at_least=1)
    negative: int = setting(5, "negatives: distinct, and never the word itself", at_least=1)
    ns_exponent: float = setting(
        0.75, "power of the counts by which negatives are drawn", at_least=0
    )
    max_words: int | None = setting(None, "train on the first N words only", at_least=1)
    max_vocabulary: int | None = setting(
        None, "most frequent words to keep, with <unk>", at_least=2
    )
    export: str | None = setting(
        None, "file for the vectors in word2vec's format: binary to .bin, text to other names"
    )
    vocab_size: int = setting(0, "rows of the embedding, 0 until it is known", decided=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backend != "seqkern":
            raise ValueError(f"backend must be seqkern for word vectors, got {self.backend!r}")


class WordTask(Task[WordConfig]):
    """Training of CBOW or skip-gram, with negative sampling, on a corpus.

    Adam moves all rows in every step, also those of words that are not in the batch: their means of
    gradients fade. A sparse optimiser leaves them alone, and is another method.

    Parameters
    ----------
    config : WordConfig
    corpus : Corpus
        Decides `vocab_size` of the settings.

    Raises
    ------
    ValueError
        If the settings have a `vocab_size` that is not the corpus's.
    """

    family = "cbow"
    Config = WordConfig
    sources = ("pydoc",)
    score = "loss"
    unit = "words"

    def __init__(self, config: WordConfig, corpus: Corpus) -> None:
        size = len(corpus.vocabulary)
        if config.vocab_size not in (0, size):
            raise ValueError(
                f"vocabulary mismatch: {size:,} words in that of {config.data or 'the corpus'}, "
                f"{config.vocab_size:,} in the model's"
            )
        export = config.export and str(Path(config.export).resolve())
        self.config = replace(config, vocab_size=size, export=export)
        self.corpus = corpus
        self.vocabularies = {WORDS: corpus.vocabulary}
        self.checksum = zlib.crc32(corpus.train.contiguous().numpy().data)
        self.counts = torch.bincount(corpus.train, minlength=size)
        self.sampler = UnigramSampler(self.counts, config.ns_exponent)

    @classmethod
    def load(
        cls, config: WordConfig, vocabularies: Mapping[str, Vocabulary] | None = None
    ) -> WordTask:
        """Read the text that `config.data` names (`seqkern.data.load_corpus`)."""
        corpus = load_corpus(
            config.data,
            max_words=config.max_words,
            max_vocabulary=config.max_vocabulary,
            vocabulary=(vocabularies or {}).get(WORDS),
        )
        return cls(config, corpus)

    @staticmethod
    def build_model(config: WordConfig) -> torch.nn.Module:
        """The model of the settings, without a sampler: batches have their negatives."""
        cls = WORD_MODELS[config.model]
        return cls(config.vocab_size, config.hidden_size, num_negatives=config.negative)

    @property
    def summary(self) -> str:
        """Model, words, vocabulary."""
        return (
            f"{self.config.model} on {self.config.data}: {len(self.corpus.train):,} words, "
            f"vocabulary {self.config.vocab_size:,}"
        )

    def batches(self, device: torch.device, rank: int = 0, world: int = 1) -> ContextBatches:
        """Contexts, words and negatives of the training text."""
        export = self.config.export
        if export is not None and not Path(export).parent.is_dir():
            raise FileNotFoundError(f"export {export}: there is no such folder")
        text = self.corpus.train.to(device)
        return ContextBatches(text, self.config, self.sampler, rank, world)

    def loss(
        self, model: Callable[..., Any], batch: tuple[Tensor, ...], state: State | None
    ) -> tuple[Tensor, None]:
        """In nats, summed over a word and its negatives, and skip-gram's over the context too."""
        return model(*batch), None

    def evaluate(self, model: torch.nn.Module, split: str) -> dict[str, float]:
        """The mean loss over a split's words; negatives are drawn as in training."""
        text = self.corpus.split(split).to(next(model.parameters()).device)
        batches = ContextBatches(text, self.config, self.sampler)
        with evaluating(model):
            losses = [self.loss(model, batches.next(), None)[0] for _ in range(len(batches))]
        return {"loss": torch.stack(losses).double().mean().item()}

    def finish(self, model: torch.nn.Module, folder: Path) -> str:
        """Write the word vectors: vectors.safetensors, and `export` where it is set."""
        words, export = self.corpus.vocabulary.tokens, self.config.export
        vectors = KeyedVectors(words, cast(CBOW, model).vectors.cpu(), self.counts)
        vectors.save(folder / VECTORS)
        if export is not None:
            vectors.save_word2vec_format(export, binary=is_binary(Path(export)))
        return f"saved in {folder}" + (f" and {export}" if export else "")

    @classmethod
    def show(cls, run: Run, plots: Path) -> str:
        """Words nearest to the ten most frequent ones; nothing before the end of the training."""
        if not (run.folder / VECTORS).exists():
            return ""
        vectors = KeyedVectors.load(run.folder / VECTORS)
        lines = []
        for i in cast(Tensor, vectors.counts).argsort(descending=True, stable=True)[:10].tolist():
            near = [word for word, _ in vectors.most_similar(vectors.words[i], topn=5)]
            lines.append(f"{vectors.words[i]}: {', '.join(near)}")
        return "\n".join(lines)


class ContextBatches(ExampleBatches):
    """Contexts (B, 2 window), the words in their middle (B,), and negatives (B, K) or (B, C, K).

    Every word of the text comes once an epoch. As in the book, the first and last `window` words
    have no whole context and are left out, and so is what fills no batch. The negatives depend on
    seed, position and process alone.

    Parameters
    ----------
    text : Tensor
        int64, shape (length,). Batches come on its device.
    config : WordConfig
    sampler : UnigramSampler
    rank, world : int
        Which part of each batch to give, of how many.

    Raises
    ------
    ValueError
        If the text is too short for a batch, or `world` does not divide its size.

    Examples
    --------
    >>> config = WordConfig(window=2, batch_size=3, negative=2)
    >>> batches = ContextBatches(torch.arange(7), config, UnigramSampler([1] * 7))
    >>> contexts, target, negatives = batches.next()
    >>> sorted(target.tolist()), contexts[target == 3].tolist(), negatives.shape
    ([2, 3, 4], [[1, 2, 4, 5]], torch.Size([3, 2]))
    """

    def __init__(
        self,
        text: Tensor,
        config: WordConfig,
        sampler: UnigramSampler,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        window = config.window
        needed = config.batch_size + 2 * window
        if len(text) < needed:
            raise ValueError(
                f"text too short: {len(text)} tokens, "
                f"but batch_size {config.batch_size} and window {window} need {needed}"
            )
        around = [*range(-window, 0), *range(1, window + 1)]
        offsets = torch.tensor(around, device=text.device)

        def contexts(indices: Tensor) -> tuple[Tensor, Tensor]:
            places = indices.to(text.device) + window
            return text[places[:, None] + offsets], text[places]

        count = len(text) - 2 * window
        super().__init__(count, config.batch_size, contexts, config.seed, rank, world)
        self.rank, self.device = rank, text.device
        self.config, self.sampler = config, sampler

    def next(self) -> tuple[Tensor, Tensor, Tensor]:
        """The next batch; the position moves on."""
        numbers = self.seed, *divmod(self.position, len(self)), self.rank
        generator = seeded_generator(*numbers, device=self.device)
        contexts, target = super().next()
        positives = contexts if self.config.model == "skip-gram" else target
        negatives = self.sampler.negatives(positives, self.config.negative, generator)
        return contexts, target, negatives
