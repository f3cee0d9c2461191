"""Words, their numbers and their vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqkern.vectors.similarity import row_norms, unit

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Key", "Lookup"]

Key = str | int
"""A word, or its index."""


class Lookup:
    """Words, and a vector of each: what KeyedVectors has besides similarity, files and evaluation.

    See `KeyedVectors`, whose parameters these are.
    """

    def __init__(self, words: Sequence[str], vectors: Tensor, counts: Tensor | None = None) -> None:
        if not isinstance(vectors, Tensor):
            raise TypeError(f"vectors must be a Tensor, got {type(vectors).__name__}")
        if vectors.ndim != 2 or vectors.shape[1] == 0 or len(vectors) != len(words):
            expected = f"({len(words)}, d) for {len(words):,} words and d > 0"
            raise ValueError(f"vectors has shape {tuple(vectors.shape)}, expected {expected}")
        if not vectors.is_floating_point():
            raise TypeError(f"vectors must be floating-point, got {vectors.dtype}")
        self.words = list(words)
        self.key_to_index = {word: i for i, word in enumerate(self.words)}
        if len(self.key_to_index) != len(self.words):
            repeated = next(word for word, n in Counter(self.words).items() if n > 1)
            raise ValueError(f"words must be distinct, got {repeated!r} more than once")
        self.vectors = vectors.detach()
        self.counts = None if counts is None else _counts(counts, len(self.words), "counts")
        self._norms: Tensor | None = None
        self._norms_of: tuple[object, ...] = ()

    @property
    def index_to_key(self) -> list[str]:
        """`words`, under gensim's name."""
        return self.words

    @property
    def vector_size(self) -> int:
        """The number of elements of a vector."""
        return self.vectors.shape[1]

    def __len__(self) -> int:
        return len(self.words)

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.key_to_index

    def __repr__(self) -> str:
        v = self.vectors
        return (
            f"{type(self).__name__}({len(self):,} words, "
            f"vector_size={self.vector_size}, dtype={v.dtype}, device={str(v.device)!r})"
        )

    def __getitem__(self, keys: Key | Sequence[Key]) -> Tensor:
        """The vector (d,) of a word, or the vectors (n, d) of a list of words."""
        if isinstance(keys, str | int | np.integer):
            return self.get_vector(keys)
        return self.vectors[self._indices(keys)]

    def get_index(self, key: Key, default: int | None = None) -> int:
        """The index of a word.

        Parameters
        ----------
        key : str or int
            An index is returned as it is.
        default : int, optional
            What to return for an unknown word.

        Raises
        ------
        KeyError
            If the word is unknown and there is no default.
        IndexError
            If an index is outside 0 ... len - 1.
        TypeError
            If the key is neither word nor index.
        """
        if isinstance(key, str):
            index = self.key_to_index.get(key, default)
            if index is None:
                raise KeyError(f"word {key!r} is not in the vocabulary of {len(self):,} words")
            return index
        if not isinstance(key, int | np.integer):
            raise TypeError(f"a key is a word or an index, got {type(key).__name__}")
        if not 0 <= key < len(self):
            raise IndexError(f"index {key} is outside a vocabulary of {len(self):,} words")
        return int(key)

    def _indices(self, keys: Sequence[Key]) -> Tensor:
        indices = [self.get_index(key) for key in keys]
        return torch.tensor(indices, dtype=torch.int64, device=self.vectors.device)

    def get_vector(self, key: Key, norm: bool = False) -> Tensor:
        """The vector of a word, (d,): a view of `vectors`, or a copy of length 1.

        Raises
        ------
        KeyError, IndexError, TypeError
            As `get_index`.
        """
        index = self.get_index(key)
        vector = self.vectors[index]
        return unit(vector[None])[0].to(vector.dtype) if norm else vector

    @property
    def norms(self) -> Tensor:
        """Lengths of all vectors, (V,), float32 or float64: computed at first use, then kept.

        A vector of zeros counts as of length 1: it is similar to none. Assigning `vectors`, and
        changing it by torch's operations, has them computed again; after changing its memory by
        other means, call ``fill_norms(force=True)``.
        """
        vectors = self.vectors
        version = None if vectors.is_inference() else vectors._version
        state = (vectors.data_ptr(), vectors.shape, vectors.stride(), vectors.device, version)
        if self._norms is None or self._norms_of != state:
            self._norms, self._norms_of = row_norms(vectors), state
        return self._norms

    def fill_norms(self, force: bool = False) -> None:
        """Compute `norms`, where that is not done (or must be done again: `force`)."""
        if force:
            self._norms = None
        _ = self.norms

    def get_normed_vectors(self) -> Tensor:
        """A copy of all vectors, (V, d), each of length 1. No other method makes one."""
        return unit(self.vectors).to(self.vectors.dtype)

    def add_vectors(
        self,
        words: Sequence[str],
        vectors: Tensor,
        counts: Tensor | None = None,
        replace: bool = False,
    ) -> None:
        """Append words and their vectors.

        `vectors` of this object becomes a new tensor; the one it was made with is never written to.

        Parameters
        ----------
        words : sequence of str
            Distinct words.
        vectors : Tensor, (n, d)
        counts : Tensor, (n,), optional
            Only where this object has counts; 0 by default.
        replace : bool, default False
            Give words that are already here the new vectors and counts. Else they keep theirs.

        Raises
        ------
        ValueError
            If shapes do not match, a word occurs twice, or there are counts here but none before.
        """
        added = Lookup(words, vectors, counts)
        if added.vector_size != self.vector_size:
            raise ValueError(
                f"vectors are of size {added.vector_size}, expected {self.vector_size}"
            )
        if added.counts is not None and self.counts is None:
            raise ValueError("counts are given, but the vectors they are added to have none")
        of_new = [i for i, word in enumerate(added.words) if word not in self]
        of_old = [i for i, word in enumerate(added.words) if word in self] if replace else []
        at = [self.key_to_index[added.words[i]] for i in of_old]
        fresh = added.vectors.to(self.vectors)
        joined = torch.cat([self.vectors, fresh[of_new]])
        joined[at] = fresh[of_old]
        if self.counts is not None:
            number = torch.zeros(len(added), dtype=torch.int64)
            number = number if added.counts is None else added.counts
            total = torch.cat([self.counts, number[of_new]])
            if added.counts is not None:
                total[at] = number[of_old]
            self.counts = total
        self.vectors = joined
        for i in of_new:
            self.key_to_index[added.words[i]] = len(self.words)
            self.words.append(added.words[i])

    def to(self, device: torch.device | str | int) -> Self:
        """The same words with the vectors on a device, where similarities are then computed.

        Returns
        -------
        KeyedVectors
            Another object, which shares vectors that are already there.
        """
        return type(self)(self.words, self.vectors.to(device), self.counts)


def _counts(counts: Tensor, size: int, name: str) -> Tensor:
    if not isinstance(counts, Tensor) or counts.is_floating_point() or counts.is_complex():
        kind = counts.dtype if isinstance(counts, Tensor) else type(counts).__name__
        raise TypeError(f"{name} must be a Tensor of integers, got {kind}")
    if counts.shape != (size,):
        raise ValueError(f"{name} has shape {tuple(counts.shape)}, expected ({size},)")
    return counts.detach().to("cpu", torch.int64)
