"""Sequence to sequence: sums, dates, and other pairs of a question and its answer."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from seqkern.analysis import plot_heatmap
from seqkern.data import (
    SequencePairs,
    Vocabulary,
    addition_questions,
    date_questions,
    read_questions,
    read_token_pairs,
)
from seqkern.data.sequences import PADDING, Question
from seqkern.data.text import EOS, UNK
from seqkern.models import AttentionSeq2seq, PeekySeq2seq, Seq2seq, TransformerSeq2seq
from seqkern.models.search import SearchResult, greedy_search
from seqkern.models.seq2seq import EncoderDecoder
from seqkern.training.config import RunConfig, setting
from seqkern.training.run import Run
from seqkern.training.state import State
from seqkern.training.task import ExampleBatches, Task, evaluating

SOURCE, TARGET = "source", "target"  # names of the vocabularies
GENERATED: dict[str, Callable[[int], list[Question]]] = {
    "addition": addition_questions,
    "dates": date_questions,
}
RECURRENT = {
    "seq2seq": Seq2seq,
    "peeky-seq2seq": PeekySeq2seq,
    "attention-seq2seq": AttentionSeq2seq,
}
TRANSFORMER = "transformer"
START = "_"  # of an answer of characters
HEATMAPS = 4  # pictures that `show` makes


@dataclass(frozen=True)
class Seq2seqConfig(RunConfig):
    """Settings of a sequence to sequence model; the defaults are those of the preset addition.

    Sums are learnt the better for the first steps' large eps of the book's Adam.
    """

    batch_size: int = 128
    optimizer: str = "adam-hat"
    eps: float = 1e-7
    clip: float | None = 5.0
    epochs: int = 25
    model: str = setting("seq2seq", "which model", choices=(*RECURRENT, TRANSFORMER))
    embed_size: int = setting(16, "numbers of an embedding, D", at_least=1)
    hidden_size: int = setting(
        128,
        "numbers of a recurrent state, H; units of a transformer's feed-forward parts",
        at_least=1,
    )
    num_layers: int = setting(1, "layers of the encoder, and of the decoder", at_least=1)
    cell: str = setting("lstm", "of the recurrent layers", choices=("lstm", "gru", "rnn"))
    dropout: float = setting(0.0, "probability of dropping an element", at_least=0, below=1)
    bidirectional: bool = setting(False, "read the source in both directions")
    residual: bool = setting(
        False, "add the input of each recurrent layer but the first to its output"
    )
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
        None,
        "what a token is: a character, or what blanks divide",
        choices=("char", "token"),
        decided=True,
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
        decided: dict[str, Any] = {n: getattr(config, n) or value for n, value in found.items()}
        self.config = replace(config, **decided)
        self.vocabularies = {SOURCE: pairs.source_vocabulary, TARGET: pairs.target_vocabulary}
        self.pairs = (pairs.reversed() if config.reversed else pairs).split(
            valid=config.valid_share
        )
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

    def split(self, name: str) -> SequencePairs:
        """The pairs of "train", "valid" or "test"; ValueError if there are none."""
        if not len(self.pairs[name]):
            raise ValueError(f"too little data: no {name} questions in {self.config.data}")
        return self.pairs[name]

    def batches(self, device: torch.device, rank: int = 0, world: int = 1) -> ExampleBatches:
        """Pairs, N / world at a time."""
        config = self.config
        for name in ("valid", "test"):  # data too short is told before training
            self.split(name)
        train = self.split("train").to(device)
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
        """Mean cross-entropy of the targets' tokens, in nats."""
        return model(batch.source, batch.target, batch.lengths), None

    def evaluate(self, model: torch.nn.Module, split: str) -> dict[str, float]:
        """Share of the questions whose whole answer is right, and the loss."""
        pairs, size = self.split(split), self.config.eval_batch_size
        model = cast(EncoderDecoder, model)
        right = right_answers(model, pairs, size)
        return {
            "accuracy": right.double().mean().item(),
            "loss": mean_loss(model, pairs, size),
        }

    def samples(self, model: EncoderDecoder, pairs: SequencePairs) -> list[str]:
        """A line for each pair: source, the model's target, and the right one if it is another."""
        (batch,) = _batches(model, pairs, len(pairs))
        lines = []
        for source, found, wanted in zip(
            self._natural(batch).source.T, _answers(model, batch).T, batch.target[1:].T, strict=True
        ):
            line = f"{self._text(SOURCE, source)} -> {self._text(TARGET, found)}"
            if not torch.equal(found, wanted):
                line += f"  (wrong: {self._text(TARGET, wanted)})"
            lines.append(line)
        return lines

    def attention(
        self, model: EncoderDecoder, pairs: SequencePairs
    ) -> list[tuple[Tensor, list[str], list[str]]]:
        """For each pair weights (T, S), S tokens of the source, T that greedy search found.

        Sources are in their natural order. Empty if the model has no attention that it tells of.
        """
        (batch,) = _batches(model, pairs, len(pairs))
        found = _search(model, batch)
        if found.weights is None:
            return []
        maps = []
        for i, padded in enumerate(self._natural(batch).source.T):
            source, target = padded[padded >= 0], found.tokens[: int(found.lengths[i]), i]
            weights = found.weights[: len(target), i, : len(source)].cpu()
            maps.append(
                (
                    weights.flip(1) if self.config.reversed else weights,
                    self.vocabularies[SOURCE].decode(source.tolist()),
                    self.vocabularies[TARGET].decode(target.tolist()),
                )
            )
        return maps

    def _natural(self, pairs: SequencePairs) -> SequencePairs:
        return pairs.reversed() if self.config.reversed else pairs

    def _text(self, name: str, ids: Tensor) -> str:
        return join_tokens(self.vocabularies[name], ids, self.config.level)

    @classmethod
    def show(cls, run: Run, plots: Path) -> str:
        """Answers to ten test questions; heat maps of the first ones' attention, if there is."""
        config = cast(Seq2seqConfig, run.config)
        if not config.data:  # a model imported without its questions
            return ""
        task = cls.load(config, run.vocabularies)
        model = cast(EncoderDecoder, run.load_model())
        test = task.split("test")
        some = test.select(torch.arange(min(10, len(test))))
        for number, picture in enumerate(task.attention(model, some)[:HEATMAPS], 1):
            weights, source, target = picture
            path = plots / f"attention-{number}.png"
            plot_heatmap(path, weights, source, target, xlabel="source", ylabel="answer")
        return "\n".join(task.samples(model, some))


def _read_pairs(path: str) -> tuple[str, list[Any]]:
    """Level and pairs of a file."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            tokens = "\t" in file.readline()
        return ("token", read_token_pairs(path)) if tokens else ("char", read_questions(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {path}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error


def encode_sources(
    texts: Sequence[str], config: Seq2seqConfig, vocabularies: Mapping[str, Vocabulary]
) -> SequencePairs:
    """Sources as a model reads them, in pairs whose targets are the start token alone.

    Parameters
    ----------
    texts : sequence of str
        At least one; characters, or tokens with blanks between them, as `config.level` says.
    config : Seq2seqConfig
        What `Seq2seqTask.config` is, with all that the data decides.
    vocabularies : mapping of str to Vocabulary

    Raises
    ------
    ValueError
        If a text is empty, has a token that is not in the vocabulary (which has no `<unk>`), or,
        where padding is learned, is longer than the sources of the model's training.

    Examples
    --------
    >>> task = Seq2seqTask.load(Seq2seqConfig(data="addition", questions=1000))
    >>> pairs = encode_sources(["57+5"], task.config, task.vocabularies)
    >>> join_tokens(pairs.source_vocabulary, pairs.source[:, 0], "char"), pairs.source.shape
    ('57+5', torch.Size([7, 1]))
    """
    source, target = vocabularies[SOURCE], vocabularies[TARGET]
    learned = config.level == "char" and not config.mask_padding
    for text in texts:
        tokens = list(text) if config.level == "char" else text.split()
        unknown = [token for token in tokens if token not in source and UNK not in source]
        if unknown:
            raise ValueError(f"{text!r}: not in the vocabulary: {', '.join(map(repr, unknown))}")
        if not text.strip():
            raise ValueError("a question is empty")
        if learned and len(text) > config.source_length:
            raise ValueError(
                f"{text!r} has more than the {config.source_length} characters of training"
            )
    if config.level == "char":
        width = config.source_length if learned else 0
        questions = [(text.ljust(width), START) for text in texts]
        pairs = SequencePairs.from_questions(questions, source, config.mask_padding)
    else:
        pairs = SequencePairs.from_tokens([(text.split(), []) for text in texts], source, target)
    pairs = replace(pairs, target=pairs.target[:1])
    return pairs.reversed() if config.reversed else pairs


def join_tokens(vocabulary: Vocabulary, ids: Tensor, level: str | None) -> str:
    """The text of ids (length,), without padding and end token."""
    tokens = vocabulary.decode(ids[ids >= 0].tolist())
    if level == "token":
        return " ".join(token for token in tokens if token != EOS)
    return "".join(tokens).rstrip(" ")


def right_answers(model: EncoderDecoder, pairs: SequencePairs, batch_size: int = 1000) -> Tensor:
    """Whether greedy search finds the whole target, its end token too; bool, shape (P,).

    The sum is what `eval_seq2seq` of "Deep Learning from Scratch 2" counts, the mean the accuracy.

    Examples
    --------
    >>> task = Seq2seqTask.load(Seq2seqConfig(data="addition", questions=1000))
    >>> right_answers(task.build_model(task.config), task.split("test")).shape
    torch.Size([100])
    """
    return torch.cat(
        [
            (_answers(model, batch) == batch.target[1:]).all(0)
            for batch in _batches(model, pairs, batch_size)
        ]
    )


def mean_loss(model: EncoderDecoder, pairs: SequencePairs, batch_size: int = 1000) -> float:
    """Mean cross-entropy of all targets' tokens, in nats."""
    total = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)
    with evaluating(model):
        for batch in _batches(model, pairs, batch_size):
            tokens = (batch.target[1:] >= 0).sum()
            total += model(batch.source, batch.target, batch.lengths) * tokens
    return total.item() / int((pairs.target[1:] >= 0).sum())


def _batches(
    model: EncoderDecoder, pairs: SequencePairs, batch_size: int
) -> Iterator[SequencePairs]:
    """Pairs in their order, on the model's device."""
    device = next(model.parameters()).device
    for indices in torch.arange(len(pairs)).split(batch_size):
        yield pairs.select(indices).to(device)


def _search(model: EncoderDecoder, pairs: SequencePairs) -> SearchResult:
    """Greedy search for targets no longer than the pairs'."""
    start, max_length = int(pairs.target[0, 0]), len(pairs.target) - 1
    return greedy_search(model, pairs.source, start, max_length, pairs.end, pairs.lengths)


def _answers(model: EncoderDecoder, pairs: SequencePairs) -> Tensor:
    """What the search finds, (T, N), as many steps as the targets have after the start."""
    found = _search(model, pairs).tokens
    missing = len(pairs.target) - 1 - len(found)
    return torch.nn.functional.pad(found, (0, 0, 0, missing), value=PADDING)
