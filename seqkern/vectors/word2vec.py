"""Word2Vec: word vectors trained by skip-gram or CBOW."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqkern.data.checkpoint import load_checkpoint, save_checkpoint
from seqkern.data.words import EncodedText, Source, WordCounts, count_words, encode_words
from seqkern.vectors._distributed import Averaging, is_first_process
from seqkern.vectors._interrupts import interrupts_held_back
from seqkern.vectors._trainable import Objective, Trainable
from seqkern.vectors.keyed_vectors import KeyedVectors
from seqkern.vectors.subwords import subword_table

__all__ = ["TrainingReport", "Word2Vec"]

CBOW_UPDATES = ("word2vec", "exact")
_SECONDS = 0.25  # between two looks at the clock, the checkpoint and Ctrl-C


@dataclass(frozen=True)
class TrainingReport:
    """What a call of the kernel leaves behind: where training is, and how it goes.

    Attributes
    ----------
    epoch, epochs : int
        Counted from 0.
    words, total_words : int
        Words of the text passed so far and in all epochs, before subsampling.
    words_per_second : float
        Since the last report.
    loss : float
        Mean loss of an example (nats) since the last report: of one word and its negatives, or of
        its path.
    learning_rate : float
    epoch_loss : float
        Mean loss of an example in this epoch so far.
    epoch_ended : bool
        Whether this is the epoch's last report.
    """

    epoch: int
    epochs: int
    words: int
    total_words: int
    words_per_second: float
    loss: float
    learning_rate: float
    epoch_loss: float
    epoch_ended: bool


@dataclass
class _Progress:
    """Where a training stands, to be taken up again."""

    epochs: int
    start_alpha: float
    end_alpha: float
    length: int  # of the encoded text
    epoch: int = 0
    place: int = 0
    losses: list[list[float]] = field(default_factory=list)  # of each epoch: loss, examples, words

    @property
    def finished(self) -> bool:
        return self.epoch >= self.epochs


class Word2Vec:
    """Word vectors trained by skip-gram or CBOW, with gensim's names and defaults.

    Parameters
    ----------
    sentences : path, iterable of lists of str, or integer tensors, optional
        A text (`seqkern.data.words`): builds the vocabulary and trains `epochs` epochs. Without
        one, call `build_vocab` and `train`.
    corpus_file : path, optional
        The same, for a file.
    vector_size : int
        d.
    alpha, min_alpha : float
        The learning rate falls linearly from the one to the other over all epochs.
    window : int
        The furthest distance of a context word.
    min_count : int
        Rarer words are left out.
    max_vocab_size : int, optional
        Bounds the memory of counting, at the price of exact counts of rare words.
    sample : float
        Threshold of the subsampling of frequent words; 0 keeps all.
    seed : int
    workers : int, optional
        Threads; default `torch.get_num_threads()`. With 1, results are the same bit for bit. More
        write to the same rows without locks, and are not, unless `deterministic`.
    sg : bool
        Skip-gram; else CBOW.
    hs : bool
        Hierarchical softmax in place of negative sampling.
    negative : int
        K: draws of negatives for an example; those that hit the word itself are left out.
    ns_exponent : float
        Negatives are drawn by this power of the counts.
    cbow_mean : bool
        CBOW takes the mean of the context's vectors, else their sum.
    epochs : int
    max_final_vocab : int, optional
        Raises `min_count` until the vocabulary fits.
    shrink_windows : bool
        A word's window is drawn uniformly from 1 to `window`, else it is `window`.
    cbow_update : {"word2vec", "exact"}
        How a mean's gradient goes to its vectors: whole to each, as in word2vec.c and gensim, whose
        learning rates assume it; or divided by their number, as the gradient of the loss is.
    shared_negatives : bool
        Skip-gram: one draw of negatives for all context words of a word.
    min_n, max_n, bucket : int
        Lengths of character n-grams, and the rows they share by their hash, as in fastText: with a
        `bucket` greater than 0, a word's vector is the mean of its own row and its n-grams'.
    deterministic : bool
        The same result for every number of workers, more slowly.
        `torch.use_deterministic_algorithms(True)` asks for it, too. Not on CUDA, where training
        then raises NotImplementedError.
    device : torch device
        Where the matrices are, and training runs. On CUDA, `workers` means nothing, and results
        vary from run to run.
    callback : callable, optional
        Called with a `TrainingReport` a few times a second.

    Attributes
    ----------
    wv : KeyedVectors
        The word vectors. They share memory with the model (not with n-grams): further training
        changes them.
    epoch_losses : list of float
        The mean loss of an example (nats) in each epoch so far.

    Raises
    ------
    ValueError
        If an argument is out of its range, no word is left, or the vocabulary has one word.
    TypeError
        If a text is none of the three kinds.

    Notes
    -----
    Mikolov, Sutskever, Chen, Corrado and Dean, "Distributed representations of words and phrases
    and their compositionality", 2013. `csrc/params/word_vectors.h` has the equations. The
    examples of a word, or of four words for CBOW, take their errors from the same vectors, and then
    change them one by one.

    Examples
    --------
    >>> text = [["the", "cat", "sat"], ["the", "dog", "sat"], ["a", "red", "car"]] * 50
    >>> model = Word2Vec(text, vector_size=16, min_count=1, sample=0, epochs=20, workers=1)
    >>> model.wv["cat"].shape
    torch.Size([16])
    >>> model.wv.most_similar("cat", topn=1)[0][0]
    'dog'
    """

    def __init__(
        self,
        sentences: Source | None = None,
        corpus_file: str | os.PathLike[str] | None = None,
        vector_size: int = 100,
        alpha: float = 0.025,
        window: int = 5,
        min_count: int = 5,
        max_vocab_size: int | None = None,
        sample: float = 1e-3,
        seed: int = 1,
        workers: int | None = None,
        min_alpha: float = 0.0001,
        sg: bool = False,
        hs: bool = False,
        negative: int = 5,
        ns_exponent: float = 0.75,
        cbow_mean: bool = True,
        epochs: int = 5,
        max_final_vocab: int | None = None,
        shrink_windows: bool = True,
        *,
        cbow_update: str = "word2vec",
        shared_negatives: bool = False,
        min_n: int = 3,
        max_n: int = 6,
        bucket: int = 0,
        deterministic: bool = False,
        device: torch.device | str = "cpu",
        callback: Callable[[TrainingReport], None] | None = None,
    ) -> None:
        positive = {"vector_size": vector_size, "window": window, "min_count": min_count}
        for name, value in {**positive, "epochs": epochs}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more")
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}, expected 1 or more")
        for name, size in (("negative", negative), ("bucket", bucket), ("sample", sample)):
            if not size >= 0:  # NaN is refused, too
                raise ValueError(f"{name} is {size}, expected 0 or more")
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"seed is {seed}, expected -2^63 to 2^63 - 1")
        if not hs and negative == 0:
            raise ValueError("negative is 0 and hs is False, expected one of the two objectives")
        _check_rates("alpha", alpha, "min_alpha", min_alpha)
        if cbow_update not in CBOW_UPDATES:
            raise ValueError(f"cbow_update is {cbow_update!r}, expected one of {CBOW_UPDATES}")
        self.objective = Objective(
            vector_size=int(vector_size),
            window=int(window),
            shrink_windows=bool(shrink_windows),
            sg=bool(sg),
            hs=bool(hs),
            negative=0 if hs else int(negative),
            ns_exponent=float(ns_exponent),
            sample=float(sample),
            cbow_mean=bool(cbow_mean),
            cbow_update=cbow_update,
            shared_negatives=bool(shared_negatives),
            min_n=int(min_n),
            max_n=int(max_n),
            bucket=int(bucket),
            seed=int(seed),
        )
        self.alpha, self.min_alpha, self.epochs = float(alpha), float(min_alpha), int(epochs)
        self.min_count, self.max_vocab_size = int(min_count), max_vocab_size
        self.max_final_vocab = max_final_vocab
        self.workers, self.deterministic = workers, deterministic
        self.device = torch.device(device)
        self.words: list[str] = []
        self.counts = torch.zeros(0, dtype=torch.int64)
        self.trainable: Trainable | None = None
        self._progress: _Progress | None = None
        self._wv: KeyedVectors | None = None
        source = _one_source(sentences, corpus_file)
        if source is not None:
            self.build_vocab(source)
            self.train(source, callback=callback)

    def __repr__(self) -> str:
        o = self.objective
        kind = "skip-gram" if o.sg else "CBOW"
        return f"{type(self).__name__}({len(self.words):,} words, {kind}, {o.vector_size})"

    # Vocabulary

    def build_vocab(
        self,
        sentences: Source | None = None,
        corpus_file: str | os.PathLike[str] | None = None,
        *,
        update: bool = False,
    ) -> WordCounts:
        """Count a text's words, and make the matrices.

        Parameters
        ----------
        sentences, corpus_file
            The text, as for `Word2Vec`.
        update : bool
            Add the text's counts and new words to the vocabulary there is, whose vectors stay. With
            hierarchical softmax, the tree is a new one, and its output vectors begin anew.

        Returns
        -------
        WordCounts
            Of the text.

        Raises
        ------
        ValueError
            If the vocabulary is empty or has one word only, or there is one already (without
            `update`).
        """
        source = _one_source(sentences, corpus_file)
        if source is None:
            raise ValueError("neither sentences nor corpus_file is given")
        if self.words and not update:
            raise ValueError("there is a vocabulary; update=True adds to it")
        found = count_words(source, threads=self.workers, max_vocab=self.max_vocab_size)
        words, counts = list(self.words), self.counts
        if words:
            known = {word: i for i, word in enumerate(words)}
            counts = counts.clone()
            new = []
            for i, word in enumerate(found.words):
                if word in known:
                    counts[known[word]] += found.counts[i]
                elif found.counts[i] >= self.min_count:
                    new.append(i)
            words += [found.words[i] for i in new]
            counts = torch.cat([counts, found.counts[new]])
        else:
            kept = found.prune(self.min_count, self.max_final_vocab)
            words, counts = kept.words, kept.counts
        if len(words) < 2:
            raise ValueError(
                f"the vocabulary has one word only, {words[0]!r}: nothing to tell apart"
            )
        if self.trainable is None:
            self.trainable = Trainable(self.objective, words, counts, self.device)
        else:
            self.trainable.grow(words, counts)
        self.words, self.counts = words, counts
        self._wv = self._progress = None
        return found

    # Training

    def train(
        self,
        sentences: Source | None = None,
        corpus_file: str | os.PathLike[str] | None = None,
        *,
        epochs: int | None = None,
        start_alpha: float | None = None,
        end_alpha: float | None = None,
        resume: bool = False,
        checkpoint: str | Path | None = None,
        checkpoint_seconds: float = 300.0,
        average_every: int = 1_000_000,
        callback: Callable[[TrainingReport], None] | None = None,
    ) -> float:
        """Train on a text.

        Parameters
        ----------
        sentences, corpus_file
            The text, as for `Word2Vec`.
        epochs, start_alpha, end_alpha
            Default: the model's `epochs`, `alpha` and `min_alpha`.
        resume : bool
            Go on with the training that was interrupted, on the same text; its epochs and rates
            hold.
        checkpoint : path, optional
            Where the model is saved every `checkpoint_seconds`, when the training is interrupted
            (Ctrl-C), and when it ends. Of several processes, the first saves.
        average_every : int
            Where torch.distributed is initialised, each process trains on its part of the text, and
            the matrices are averaged each time that so many words have passed in all. Losses and
            words are those of all processes.
        callback : callable, optional
            Called with a `TrainingReport` a few times a second.

        Returns
        -------
        float
            Mean loss of an example (nats) in the last epoch.

        Raises
        ------
        ValueError
            If there is no vocabulary, the text has none of its words, or does not fit `resume`, or
            another argument is out of its range.

        Notes
        -----
        Neither checkpoints nor interruptions change the result, with one worker or
        `deterministic`.
        """
        if self.trainable is None:
            raise ValueError("there is no vocabulary; expected a call of build_vocab before train")
        source = _one_source(sentences, corpus_file)
        if source is None:
            raise ValueError("neither sentences nor corpus_file is given")
        epochs = self.epochs if epochs is None else epochs
        for name, value in (("epochs", epochs), ("average_every", average_every)):
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more")
        start_alpha = self.alpha if start_alpha is None else start_alpha
        end_alpha = self.min_alpha if end_alpha is None else end_alpha
        _check_rates("start_alpha", start_alpha, "end_alpha", end_alpha)
        text = encode_words(source, self.words, threads=self.workers)
        if text.tokens == 0:
            raise ValueError("the text has no word of the vocabulary")
        if resume:
            progress = self._resumed(text)
        else:
            progress = _Progress(epochs, start_alpha, end_alpha, text.ids.shape[0])
        self._progress, self._wv = progress, None
        if not is_first_process():
            checkpoint = None
        saved = time.monotonic()
        try:
            for report in self._run(text, progress, average_every):
                if callback is not None:
                    callback(report)
                if checkpoint is not None and time.monotonic() - saved > checkpoint_seconds:
                    self.save(checkpoint)
                    saved = time.monotonic()
        finally:
            if checkpoint is not None:
                self.save(checkpoint)
        return self.epoch_losses[-1]

    @property
    def epoch_losses(self) -> list[float]:
        """Mean loss of an example (nats) in each epoch so far."""
        losses = self._progress.losses if self._progress else []
        return [loss / examples if examples else 0.0 for loss, examples, _ in losses]

    @property
    def interrupted(self) -> bool:
        """Whether a training has begun and not ended, so that it can be resumed."""
        return self._progress is not None and not self._progress.finished

    def _resumed(self, text: EncodedText) -> _Progress:
        progress = self._progress
        if progress is None or progress.finished:
            raise ValueError("resume is True, but no training was interrupted")
        if progress.length != text.ids.shape[0]:
            raise ValueError(
                f"the text has {text.ids.shape[0]:,} words and sentence ends, expected the one of "
                f"the training that was interrupted, with {progress.length:,}"
            )
        return progress

    def _run(
        self, text: EncodedText, progress: _Progress, average_every: int
    ) -> Iterator[TrainingReport]:
        """Train slice by slice from where `progress` stands, and keep it up to date."""
        assert self.trainable is not None
        trainable = self.trainable
        ids, length = text.ids.to(self.device), text.ids.shape[0]
        share = text.tokens / length
        averaging = Averaging.current(length, average_every / share)
        span = progress.epochs * max(1, averaging.length)
        step = (progress.end_alpha - progress.start_alpha) / span
        size = 1 << 16
        while not progress.finished:
            if len(progress.losses) == progress.epoch:
                progress.losses.append([0.0, 0.0, 0.0])
            begin, end = averaging.slice(progress.place, size)
            # At place 0 of the text, so that it is right at the places of this process.
            rate = progress.start_alpha
            rate += (progress.epoch * averaging.length - averaging.first) * step
            epoch, place = progress.epoch, progress.place + end - begin
            start = time.perf_counter()
            with interrupts_held_back():
                totals = trainable.train(
                    ids,
                    begin,
                    end,
                    rate=rate,
                    rate_step=step,
                    epoch=epoch,
                    workers=self.workers or 0,
                    deterministic=self.deterministic,
                )
                seconds = time.perf_counter() - start
                totals = averaging.after(place, (trainable.input, trainable.output), totals)
                sums = zip(progress.losses[-1], totals, strict=True)
                progress.losses[-1] = [a + b for a, b in sums]
                at_end = place >= averaging.length
                progress.epoch, progress.place = (epoch + 1, 0) if at_end else (epoch, place)
                self._wv = None
            if end > begin:
                scale = min(4.0, _SECONDS / max(seconds, 1e-9))
                size = max(1 << 16, int((end - begin) * scale))
            words = (end - begin) * averaging.processes * share
            yield TrainingReport(
                epoch=epoch,
                epochs=progress.epochs,
                words=int((epoch * length + averaging.passed(place)) * share),
                total_words=int(progress.epochs * length * share),
                words_per_second=words / max(seconds, 1e-9),
                loss=totals.loss / totals.examples if totals.examples else 0.0,
                learning_rate=rate + end * step,
                epoch_loss=self.epoch_losses[epoch],
                epoch_ended=progress.epoch > epoch,
            )

    # Results

    @property
    def wv(self) -> KeyedVectors:
        """The word vectors."""
        if self.trainable is None:
            raise ValueError("there is no vocabulary, and so no vectors")
        if self._wv is None:
            vectors = self.trainable.vectors(len(self.words))
            self._wv = KeyedVectors(self.words, vectors, self.counts)
        return self._wv

    def subword_vectors(self, words: Sequence[str]) -> Tensor:
        """Vectors (n, d) of any words, known or not, from their n-grams."""
        o = self.objective
        if not o.bucket or self.trainable is None:
            raise ValueError("the model has no n-grams, expected bucket > 0")
        lists = [self._rows(word) for word in words]
        offsets = torch.tensor([0, *(len(rows) for rows in lists)]).cumsum(0)
        return self.trainable.bag(torch.cat([torch.empty(0, dtype=torch.int32), *lists]), offsets)

    def _rows(self, word: str) -> Tensor:
        """Input rows of a word: its own, if it is known, and its n-grams'."""
        o = self.objective
        numbers, _ = subword_table([word], o.min_n, o.max_n, o.bucket)
        ngrams = numbers[1:] - 1 + len(self.words)
        if (own := self.wv.get_index(word, -1)) >= 0:
            ngrams = torch.cat([torch.tensor([own], dtype=ngrams.dtype), ngrams])
        return ngrams

    # Files

    def save(self, path: str | Path) -> None:
        """Write the model, and where its training stands, to one safetensors file.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        if self.trainable is None:
            raise ValueError("there is no vocabulary, and so nothing to save")
        blob = json.dumps(self.words).encode()
        tensors = {
            "input": self.trainable.input,
            "output": self.trainable.output,
            "words": torch.frombuffer(bytearray(blob), dtype=torch.uint8),
            "counts": self.counts,
        }
        settings = {
            "alpha": self.alpha,
            "min_alpha": self.min_alpha,
            "epochs": self.epochs,
            "min_count": self.min_count,
            "max_vocab_size": self.max_vocab_size,
            "max_final_vocab": self.max_final_vocab,
            "workers": self.workers,
            "deterministic": self.deterministic,
        }
        meta = {
            "model": "word2vec",
            "objective": asdict(self.objective),
            "settings": settings,
            "progress": asdict(self._progress) if self._progress else None,
        }
        save_checkpoint(path, tensors, meta)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> Word2Vec:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is truncated, corrupt, or no model of this kind.
        """
        tensors, meta = load_checkpoint(path)
        if meta.get("model") != "word2vec":
            raise ValueError(f"{path} is a checkpoint of seqkern, but not of Word2Vec")
        try:
            return cls._restored(tensors, meta, device)
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"checkpoint {path} is corrupt: {error!r}") from error

    @classmethod
    def _restored(
        cls, tensors: dict[str, Tensor], meta: dict[str, Any], device: torch.device | str
    ) -> Word2Vec:
        model = cls(**meta["objective"], **meta["settings"], device=device)
        model.words = json.loads(bytes(tensors["words"].numpy()))
        model.counts = tensors["counts"]
        model.trainable = Trainable(model.objective, model.words, model.counts, model.device)
        model.trainable.input.copy_(tensors["input"])
        model.trainable.output.copy_(tensors["output"])
        progress: dict[str, Any] | None = meta["progress"]
        model._progress = _Progress(**progress) if progress else None
        return model


def _check_rates(first_name: str, first: float, last_name: str, last: float) -> None:
    for name, value, allowed in ((first_name, first, first > 0), (last_name, last, last >= 0)):
        if not (allowed and math.isfinite(value)):
            expected = "a number above 0" if name == first_name else "0 or a number above"
            raise ValueError(f"{name} is {value}, expected {expected}")


def _one_source(
    sentences: Source | None, corpus_file: str | os.PathLike[str] | None
) -> Source | None:
    if sentences is not None and corpus_file is not None:
        raise ValueError("sentences and corpus_file are both given, expected one of them")
    return corpus_file if sentences is None else sentences
