"""The matrices of a word-vector model, and what its kernel is called with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqkern.functional.sampling import alias_table
from seqkern.vectors.huffman import huffman
from seqkern.vectors.subwords import subword_table

_ROW = 16  # floats: rows are a multiple of this long, so that each begins at a cache line
_CHUNK = 2048  # places of a text that the CPU kernel takes at a time


@dataclass(frozen=True)
class Objective:
    """What word vectors are trained for; the names are those of `Word2Vec`."""

    vector_size: int
    window: int
    shrink_windows: bool
    sg: bool
    hs: bool
    negative: int
    ns_exponent: float
    sample: float
    cbow_mean: bool
    cbow_update: str
    shared_negatives: bool
    min_n: int
    max_n: int
    bucket: int
    seed: int

    @property
    def row_size(self) -> int:
        """Floats from row to row."""
        return -(-self.vector_size // _ROW) * _ROW


class Totals(NamedTuple):
    """Sums over a part of training."""

    loss: float
    examples: float
    words: float  # that stayed in the text


class Trainable:
    """Matrices and sampling tables of a vocabulary.

    Attributes
    ----------
    input : Tensor
        float32, (V + bucket, row_size): rows of words, then of n-grams. The columns past
        `vector_size` are 0.
    output : Tensor
        float32, (V, row_size) for negative sampling, (V - 1, row_size) for hierarchical softmax.
    """

    def __init__(
        self, objective: Objective, words: list[str], counts: Tensor, device: torch.device
    ) -> None:
        self.objective, self.device = objective, device
        self.input = self._initial(len(words) + objective.bucket)
        self.output = torch.zeros(len(words) - objective.hs, objective.row_size, device=device)
        self._tables = self._make_tables(words, counts)
        self._totals = torch.zeros(3, dtype=torch.float64, device=device)

    def grow(self, words: list[str], counts: Tensor) -> None:
        """Take a vocabulary whose first words are those there are, with counts that may differ."""
        old_input, old_output = self.input, self.output
        known = len(old_input) - self.objective.bucket
        self.input = self._initial(len(words) + self.objective.bucket)
        self.input[:known] = old_input[:known]
        if self.objective.bucket:
            self.input[len(words) :] = old_input[known:]
        self.output = old_output.new_zeros(len(words) - self.objective.hs, self.objective.row_size)
        if not self.objective.hs:  # the inner nodes of a new tree are others
            self.output[:known] = old_output
        self._tables = self._make_tables(words, counts)

    def _initial(self, rows: int) -> Tensor:
        """Uniform in [-0.5, 0.5) / vector_size, as word2vec's."""
        size = self.objective.vector_size
        generator = torch.Generator().manual_seed(self.objective.seed)
        matrix = torch.zeros(rows, self.objective.row_size)
        matrix[:, :size] = (torch.rand(rows, size, generator=generator) - 0.5) / size
        return matrix.to(self.device)

    def _make_tables(self, words: list[str], counts: Tensor) -> dict[str, Any]:
        o = self.objective
        tables: dict[str, Any] = {}
        if o.sample:
            tables["keep"] = keep_thresholds(counts, o.sample)
        if o.hs:
            tree = huffman(counts)
            path, labels, offsets = tree.paths, 1 - tree.codes, tree.offsets
            tables |= {"path": path, "path_labels": labels, "path_offsets": offsets}
            tables["most_nodes"] = int(offsets.diff().max())
        else:
            weights = counts.double() ** o.ns_exponent
            tables["noise"] = alias_table(weights).table
            tables["negatives"] = o.negative
        if o.bucket:
            rows, offsets = subword_table(words, o.min_n, o.max_n, o.bucket)
            tables |= {"subwords": rows, "subword_offsets": offsets}
            tables["most_subwords"] = int(offsets.diff().max())
        return {
            name: value.to(self.device) if isinstance(value, Tensor) else value
            for name, value in tables.items()
        }

    def train(
        self,
        ids: Tensor,
        begin: int,
        end: int,
        *,
        rate: float,
        rate_step: float,
        epoch: int,
        workers: int,
        deterministic: bool,
    ) -> Totals:
        """Train on the places [begin, end) of a text, with the rate rate + place * rate_step."""
        o = self.objective
        self._totals.zero_()
        torch.ops.seqkern.train_word_vectors_(
            self.input,
            self.output,
            self._totals,
            ids,
            begin,
            end,
            vector_size=o.vector_size,
            cbow=not o.sg,
            window=o.window,
            shrink_windows=o.shrink_windows,
            mean=o.cbow_mean,
            exact=o.cbow_update == "exact",
            shared=o.shared_negatives,
            rate=rate,
            rate_step=rate_step,
            seed=o.seed,
            epoch=epoch,
            workers=workers,
            deterministic=deterministic,
            **self._tables,
        )
        # What is computed from the matrices, such as the norms of `KeyedVectors`, is out of date.
        torch.autograd.graph.increment_version((self.input, self.output))
        return Totals(*self._totals.tolist())

    def vectors(self, words: int) -> Tensor:
        """(words, vector_size): of a word its row, or with n-grams the mean (sum) of its rows."""
        size = self.objective.vector_size
        if not self.objective.bucket:
            return self.input[:words, :size]
        rows, offsets = self._tables["subwords"], self._tables["subword_offsets"]
        return self.bag(rows, offsets)

    def bag(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Means (sums) of lists of input rows, (len(offsets) - 1, vector_size)."""
        mode = "mean" if self.objective.cbow_mean else "sum"
        found = torch.nn.functional.embedding_bag(
            rows.to(self.device),
            self.input,
            offsets.to(self.device, rows.dtype),
            mode=mode,
            include_last_offset=True,
        )
        return found[:, : self.objective.vector_size]


@torch.library.register_fake("seqkern::train_word_vectors_")
def _(input: Tensor, output: Tensor, totals: Tensor, ids: Tensor, *_: Any, **__: Any) -> None:
    """Change its arguments, and return nothing."""


def keep_thresholds(counts: Tensor, sample: float) -> Tensor:
    """How likely words stay in the text, int32 (V,): the bits of p 2^32 - 1, rounded down.

    p = sqrt(t / n) + t / n, with n the count of a word and t = `sample` times all words' counts, or
    what gensim takes where `sample` is 1 or more: a count (Mikolov et al. 2013, section 2.3, in the
    form of word2vec.c).
    """
    n = counts.double()
    threshold = sample * n.sum() if sample < 1 else int(sample * (3 + 5**0.5) / 2)
    share = threshold / n
    bits = ((share.sqrt() + share).clamp(max=1) * 2**32).floor().clamp(1, 2**32) - 1
    return bits.to(torch.int64).to(torch.int32)


def slice_places(length: int, first: int, size: int) -> tuple[int, int]:
    """The slice of at most about `size` places from `first` on, so that chunks are never cut."""
    return first, min(length, first + max(1, size // _CHUNK) * _CHUNK)
