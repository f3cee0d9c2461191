"""Words and their vectors: the nearest words, analogies, evaluation and files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from seqkern.vectors import archive, evaluation, formats
from seqkern.vectors.lookup import Key, Lookup
from seqkern.vectors.queries import Term, Vector, queries_of, terms_of
from seqkern.vectors.similarity import cosines, nearest, unit, working_dtype

__all__ = ["KeyedVectors"]

Similar = list[tuple[str, float]]


class KeyedVectors(Lookup):
    """Words and a vector of each, with the interface of gensim's class of that name.

    Similarities are computed where the vectors are (see `to`), and come as Python numbers. Besides
    the vectors, only their lengths are kept: no normalised copy is made, so that vectors can be
    memory-mapped, larger than the memory, or in half precision (products are then float32).

    Parameters
    ----------
    words : sequence of str
        V distinct words, by convention from the most frequent to the least.
    vectors : Tensor, (V, d), floating-point
        Used as they are, not copied: any strides, any device.
    counts : Tensor, (V,), integers, optional
        How often each word occurs.

    Attributes
    ----------
    words : list of str
        The word of every index; `index_to_key` is the same.
    key_to_index : dict of str to int
    vectors : Tensor, (V, d)
    vector_size : int
        d
    counts : Tensor, (V,), int64 on the CPU, or None
    norms : Tensor, (V,)

    Raises
    ------
    TypeError
        If `vectors` are not floating-point, or `counts` not integers.
    ValueError
        If shapes do not match, or a word occurs twice.

    Notes
    -----
    Where a method takes a *key*, it is a word or an index. An unknown word is a KeyError, never
    skipped. A vector of zeros has the similarity 0 with all others.

    Examples
    --------
    >>> import torch
    >>> vectors = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 2.0], [0.3, 3.0]])
    >>> pets = KeyedVectors(["cat", "dog", "tea", "milk"], vectors)
    >>> pets
    KeyedVectors(4 words, vector_size=2, dtype=torch.float32, device='cpu')
    >>> [word for word, cosine in pets.most_similar("cat", topn=2)]
    ['dog', 'milk']
    >>> round(pets.similarity("cat", "dog"), 3)
    0.995
    >>> [word for word, cosine in pets.analogy("cat", "dog", "tea", topn=1)]
    ['milk']
    >>> pets["bird"]
    Traceback (most recent call last):
    KeyError: "word 'bird' is not in the vocabulary of 4 words"
    """

    # Nearest words

    @overload
    def most_similar(
        self,
        positive: Term | Iterable[Term] | None = ...,
        negative: Term | Iterable[Term] | None = ...,
        topn: int = ...,
        restrict_vocab: int | None = ...,
    ) -> Similar: ...
    @overload
    def most_similar(
        self,
        positive: Term | Iterable[Term] | None = ...,
        negative: Term | Iterable[Term] | None = ...,
        *,
        topn: None,
        restrict_vocab: int | None = ...,
    ) -> Tensor: ...
    def most_similar(
        self,
        positive: Term | Iterable[Term] | None = None,
        negative: Term | Iterable[Term] | None = None,
        topn: int | None = 10,
        restrict_vocab: int | None = None,
    ) -> Similar | Tensor:
        """The words whose vectors are nearest, by their cosine, to a sum of vectors.

        As in gensim, vectors of words are brought to length 1 before they are weighted and added;
        vectors given as such are not.

        Parameters
        ----------
        positive, negative : word, index, vector (d,), or a list of these
            Of weight 1 and -1. A pair ``(key or vector, weight)`` has its own weight, sign
            included, in either list.
        topn : int or None, default 10
            How many words; None gives the similarity of every word instead.
        restrict_vocab : int, optional
            Look among this many words from the first.

        Returns
        -------
        list of (str, float), or Tensor (V,) for ``topn=None``
            From the most similar; the words asked with are left out.

        Raises
        ------
        KeyError, IndexError
            If a key is unknown.
        ValueError
            If there is nothing to look for, `topn` is negative, or `restrict_vocab` is below 1.
        """
        if topn is None:
            queries, _ = queries_of(self, [terms_of(positive, negative)])
            return self._cosines(queries, self._restricted(restrict_vocab))[0]
        return self.most_similar_batch([positive], [negative], topn, restrict_vocab)[0]

    def most_similar_batch(
        self,
        positive: Sequence[Term | Iterable[Term] | None] | Vector,
        negative: Sequence[Term | Iterable[Term] | None] | None = None,
        topn: int = 10,
        restrict_vocab: int | None = None,
    ) -> list[Similar]:
        """`most_similar` for many queries by one matrix product.

        Parameters
        ----------
        positive : sequence of Q, or vectors (Q, d)
            Of each query, what `most_similar` takes.
        negative : sequence of Q, optional
        topn, restrict_vocab : int
            As `most_similar`.

        Returns
        -------
        list of list of (str, float)
            Of each query, what `most_similar` returns.

        Raises
        ------
        KeyError, IndexError, ValueError
            As `most_similar`, or if `positive` and `negative` differ in length.

        Examples
        --------
        >>> import torch
        >>> kv = KeyedVectors(["a", "b", "c"], torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]))
        >>> kv.most_similar_batch(["a", ["b", "c"]], topn=1)  # doctest: +ELLIPSIS
        [[('b', 0.8...)], [('a', 0.447...)]]
        """
        negative = [None] * len(positive) if negative is None else negative
        if len(positive) != len(negative):
            lengths = f"{len(positive)} and {len(negative)}"
            raise ValueError(f"positive and negative are {lengths} queries, expected as many")
        asked = [terms_of(p, n) for p, n in zip(positive, negative, strict=True)]
        limit = self._restricted(restrict_vocab)
        queries, excluded = queries_of(self, asked)
        return self._nearest(queries, excluded, topn, self.norms, limit)

    def similar_by_word(
        self, word: Key, topn: int = 10, restrict_vocab: int | None = None
    ) -> Similar:
        """`most_similar` to one word."""
        return self.most_similar([word], topn=topn, restrict_vocab=restrict_vocab)

    def similar_by_vector(
        self, vector: Vector, topn: int = 10, restrict_vocab: int | None = None
    ) -> Similar:
        """`most_similar` to one vector (d,)."""
        return self.most_similar([vector], topn=topn, restrict_vocab=restrict_vocab)

    def analogy(self, a: Key, b: Key, c: Key, topn: int = 5, normalized: bool = True) -> Similar:
        """The words that are to `c` as `b` is to `a`: nearest to b - a + c, the three left out.

        Parameters
        ----------
        a, b, c : str or int
        topn : int, default 5
        normalized : bool, default True
            Add vectors of length 1 and rank by the cosine, as
            ``most_similar(positive=[b, c], negative=[a])`` does. False: add the vectors as they
            are, and rank by the plain product of each word's vector with the sum, brought to length
            1; this favours long vectors, and is ``analogy`` of Saito's *Deep Learning from Scratch
            2*, ``common/util.py``.

        Returns
        -------
        list of (str, float)

        Raises
        ------
        KeyError, IndexError, ValueError
            As `most_similar`.
        """
        if normalized:
            return self.most_similar([b, c], [a], topn)
        indices = self._indices([a, b, c])
        first, second, third = self.vectors[indices].to(working_dtype(self.vectors))
        query = unit((second - first + third)[None])
        excluded = torch.stack([torch.zeros_like(indices), indices])
        return self._nearest(query, excluded, topn, None, len(self))[0]

    def most_similar_cosmul(
        self,
        positive: Term | Iterable[Term] | None = None,
        negative: Term | Iterable[Term] | None = None,
        topn: int = 10,
        restrict_vocab: int | None = None,
    ) -> Similar:
        """The words of the largest product of similarities, over the product with `negative`.

        With similarities shifted to (1 + cos) / 2, and 1e-6 added to the divisor: equation (4) of
        Levy and Goldberg, Linguistic Regularities in Sparse and Explicit Word Representations,
        2014. One large similarity thus outweighs the others less than in a sum.

        Parameters
        ----------
        positive, negative : word, index, vector (d,), or a list of these
            Without weights; at least one positive.
        topn, restrict_vocab : int
            As `most_similar`.

        Returns
        -------
        list of (str, float)

        Raises
        ------
        KeyError, IndexError, ValueError
            As `most_similar`.
        """
        limit = self._restricted(restrict_vocab)
        added, subtracted = terms_of(positive, None), terms_of(negative, None)
        if not added:
            raise ValueError("positive is empty, expected at least one word or vector")
        if any(weight != 1.0 for _, weight in added + subtracted):
            raise ValueError("most_similar_cosmul takes no weights")
        terms, excluded = queries_of(self, [[term] for term in added + subtracted])
        shifted = (1 + self._cosines(terms, limit)) / 2
        scores = shifted[: len(added)].prod(0) / (shifted[len(added) :].prod(0) + 1e-6)
        scores = scores.masked_fill(scores.isnan(), -torch.inf)
        scores[excluded[1][excluded[1] < limit]] = -torch.inf
        values, rows = scores.topk(min(_checked(topn), limit))
        return self._named(values[None], rows[None])[0]

    # Words among words

    def similarity(self, word1: Key, word2: Key) -> float:
        """The cosine of the vectors of two words."""
        first, second = unit(self.vectors[self._indices([word1, word2])])
        return float(first @ second)

    def distance(self, word1: Key, word2: Key) -> float:
        """1 less the cosine of the vectors of two words."""
        return 1 - self.similarity(word1, word2)

    def distances(self, word_or_vector: Key | Vector, other_words: Sequence[Key] = ()) -> Tensor:
        """1 less the cosines of a word or vector with some words (n,), or with all (V,)."""
        query, _ = queries_of(self, [[(word_or_vector, 1.0)]])
        if not other_words:
            return 1 - self._cosines(query, len(self))[0]
        return 1 - unit(self.vectors[self._indices(other_words)]) @ query[0]

    def n_similarity(self, words1: Sequence[Key], words2: Sequence[Key]) -> float:
        """The cosine of the means of the vectors of some words, and of some others.

        Raises
        ------
        ValueError
            If either has no words.
        """
        if not words1 or not words2:
            raise ValueError("a list of words is empty, expected at least one word in each")
        dtype = working_dtype(self.vectors)
        means = [self[list(words)].to(dtype).mean(0) for words in (words1, words2)]
        first, second = unit(torch.stack(means))
        return float(first @ second)

    def doesnt_match(self, words: Sequence[Key]) -> str:
        """The word that is least similar to the mean of all, each brought to length 1.

        Raises
        ------
        ValueError
            If there are no words.
        """
        if not words:
            raise ValueError("words is empty, expected at least one word")
        indices = self._indices(words)
        vectors = unit(self.vectors[indices])
        return self.words[int(indices[(vectors @ vectors.mean(0)).argmin()])]

    def closer_than(self, word1: Key, word2: Key) -> list[str]:
        """The words that are more similar to `word1` than `word2` is, by index."""
        index1, index2 = self.get_index(word1), self.get_index(word2)
        distances = self.distances(index1)
        closer = distances < distances[index2]
        closer[index1] = False
        return [self.words[i] for i in closer.nonzero()[:, 0].tolist()]

    def rank(self, word1: Key, word2: Key) -> int:
        """The place of `word2` among the words most similar to `word1`: 1 for the nearest."""
        return len(self.closer_than(word1, word2)) + 1

    # Evaluation

    evaluate_word_pairs = evaluation.word_pairs
    evaluate_word_analogies = evaluation.word_analogies

    # Files

    def save(self, path: str | Path) -> None:
        """Write words, vectors and counts into one safetensors file, whole or not at all.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        archive.save(path, self.words, self.vectors, self.counts)

    @classmethod
    def load(cls, path: str | Path, mmap: bool = True) -> KeyedVectors:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or Path
        mmap : bool, default True
            Map the vectors into memory, where a page is read when it is first used. What is written
            to them stays in memory. False reads all of them now.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is truncated, or no file of `save`.
        """
        return cls(*archive.load(path, mmap))

    def save_word2vec_format(
        self,
        path: str | Path,
        fvocab: str | Path | None = None,
        binary: bool = False,
        encoding: str = "utf-8",
    ) -> None:
        """Write the format of word2vec: see `seqkern.vectors.formats.save_word2vec`."""
        formats.save_word2vec(path, self.words, self.vectors, binary, encoding)
        if fvocab is not None:
            formats.save_counts(fvocab, self.words, self.counts, encoding)

    @classmethod
    def load_word2vec_format(
        cls,
        path: str | Path,
        fvocab: str | Path | None = None,
        binary: bool = False,
        encoding: str = "utf-8",
        unicode_errors: str = "strict",
        limit: int | None = None,
        no_header: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> KeyedVectors:
        """Read the formats of word2vec and fastText: see `seqkern.vectors.formats.load_word2vec`.

        Parameters
        ----------
        path, binary, encoding, unicode_errors, limit, no_header, dtype
            As `seqkern.vectors.formats.load_word2vec`.
        fvocab : str or Path, optional
            A file of words and counts, as word2vec's ``-save-vocab`` writes it.
        """
        words, vectors = formats.load_word2vec(
            path, binary, limit, encoding, unicode_errors, no_header, dtype
        )
        counts = None
        if fvocab is not None:
            counts = formats.load_counts(fvocab, words, encoding, unicode_errors)
        return cls(words, vectors, counts)

    # Queries

    def _restricted(self, restrict_vocab: int | None) -> int:
        if restrict_vocab is not None and restrict_vocab < 1:
            raise ValueError(f"restrict_vocab is {restrict_vocab}, expected at least 1")
        return len(self) if restrict_vocab is None else min(restrict_vocab, len(self))

    def _cosines(self, queries: Tensor, limit: int) -> Tensor:
        """Similarities (Q, limit) with the first words."""
        tiles = [tile for _, tile in cosines(self.vectors[:limit], self.norms, queries)]
        return torch.cat([queries.new_empty(len(queries), 0), *tiles], dim=1)

    def _nearest(
        self, queries: Tensor, excluded: Tensor, topn: int, norms: Tensor | None, limit: int
    ) -> list[Similar]:
        if _checked(topn) == 0:
            return [[] for _ in queries]
        return self._named(*nearest(self.vectors[:limit], norms, queries, excluded, topn))

    def _named(self, values: Tensor, rows: Tensor) -> list[Similar]:
        return [
            [(self.words[i], value) for value, i in zip(v, r, strict=True) if value > -torch.inf]
            for v, r in zip(values.tolist(), rows.tolist(), strict=True)
        ]


def _checked(topn: int) -> int:
    if topn < 0:
        raise ValueError(f"topn is {topn}, expected 0 or more")
    return topn
