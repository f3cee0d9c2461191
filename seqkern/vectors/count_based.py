"""Word vectors from counts: co-occurrence, positive pointwise mutual information, truncated SVD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor

from seqkern._build_info import extension
from seqkern.data.words import Source, count_words, encode_words
from seqkern.vectors.keyed_vectors import KeyedVectors

WEIGHTINGS = ("count", "harmonic")


def cooccurrence(
    ids: Tensor | np.ndarray,
    vocab_size: int,
    window: int = 2,
    *,
    weighting: str = "count",
    threads: int | None = None,
) -> sparse.csr_matrix:
    """Count how often words stand near each other.

    Parameters
    ----------
    ids : Tensor or ndarray
        Integers, shape (length,): 0 ... vocab_size - 1, and -1 at the end of a sentence (none is
        needed where all is one sentence).
    vocab_size : int
    window : int
        The furthest distance of two words that are near each other, in one sentence.
    weighting : {"count", "harmonic"}
        What a pair at distance d adds: 1, or 1/d as in GloVe.
    threads : int, optional
        Default `torch.get_num_threads()`. The result does not depend on it.

    Returns
    -------
    scipy.sparse.csr_matrix
        Symmetric, shape (vocab_size, vocab_size); int64, or float64 with harmonic weights. Indices
        of a row rise.

    Raises
    ------
    TypeError
        If `ids` are no integers.
    ValueError
        If `ids` is not 1-D, or another argument is out of its range.
    IndexError
        If an id is below -1 or not below `vocab_size`.

    Examples
    --------
    >>> cooccurrence(torch.tensor([0, 1, 0, 2, -1, 2, 1]), 3, window=1).toarray().tolist()
    [[0, 2, 1], [2, 0, 1], [1, 1, 0]]
    """
    array = ids.to("cpu").numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    if array.dtype.kind not in "iu":
        raise TypeError(f"ids must be integers, got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"ids must have shape (length,), got {array.shape}")
    threads = torch.get_num_threads() if threads is None else threads
    for name, value in (("vocab_size", vocab_size), ("window", window), ("threads", threads)):
        if not 1 <= value < 2**31:
            raise ValueError(f"{name} must be at least 1 and below 2**31, got {value}")
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
    if array.dtype != np.int32:
        # Before they are cut to 32 bits; the native code looks at the others.
        wrong = array[(array < -1) | (array >= vocab_size)]
        if len(wrong):
            raise IndexError(f"id {wrong[0]} is none of -1 ... {vocab_size - 1}")
    array = np.ascontiguousarray(array, dtype=np.int32)
    window = min(window, len(array))
    if weighting == "harmonic":
        weights = [1 / distance for distance in range(1, window + 1)]
        found = extension.text.weighted_cooccurrence(array, vocab_size, weights, threads)
    else:
        found = extension.text.cooccurrence(array, vocab_size, [1] * window, threads)
    begins, columns, values = found
    return sparse.csr_matrix((values, columns, begins), shape=(vocab_size, vocab_size))


def ppmi(
    counts: sparse.spmatrix | np.ndarray, *, shift: float = 0.0, eps: float = 1e-8
) -> sparse.csr_matrix:
    """Positive pointwise mutual information of co-occurring words.

    Parameters
    ----------
    counts : sparse matrix or ndarray
        Shape (V, V), as `cooccurrence` counts.
    shift : float
        Bits taken off before negative values become 0: log2(k) gives the shifted PPMI that
        skip-gram with k negative samples factorises.
    eps : float
        Added to the ratio before its logarithm.

    Returns
    -------
    scipy.sparse.csr_matrix
        float64, shape (V, V), of positive elements.

    Raises
    ------
    ValueError
        If a count is negative.

    Notes
    -----
    max(0, log2(C_ij N / (S_i S_j) + eps) - shift), where S are the sums of rows and of columns and
    N the sum of all: "Deep Learning from Scratch 2", section 2.4.1. The shift: Levy and Goldberg,
    Neural Word Embedding as Implicit Matrix Factorization, NIPS 2014. What is 0 stays 0, so a
    sparse matrix stays sparse.

    Examples
    --------
    >>> ppmi(np.array([[0, 2], [2, 4]])).toarray().round(3).tolist()
    [[0.0, 0.415], [0.415, 0.0]]
    """
    pairs = sparse.coo_matrix(counts, dtype=np.float64)
    pairs.sum_duplicates()
    if pairs.nnz and pairs.data.min() < 0:
        raise ValueError(f"counts must not be negative, got {pairs.data.min():g}")
    kept = pairs.data > 0
    values, row, column = pairs.data[kept], pairs.row[kept], pairs.col[kept]
    row_sums = np.bincount(row, values, pairs.shape[0])
    column_sums = np.bincount(column, values, pairs.shape[1])
    ratio = values * values.sum() / (row_sums[row] * column_sums[column])
    information = np.log2(ratio + eps) - shift
    positive = information > 0
    return sparse.csr_matrix(
        (information[positive], (row[positive], column[positive])), shape=pairs.shape
    )


def truncated_svd(
    matrix: sparse.spmatrix | np.ndarray,
    vector_size: int,
    *,
    eigenvalue_weighting: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """Vectors of the rows of a matrix, from its largest singular values.

    Parameters
    ----------
    matrix : sparse matrix or ndarray
        Shape (rows, columns).
    vector_size : int
        At most the smaller of the two.
    eigenvalue_weighting : float
        The power of the singular values by which the columns of U are scaled: 0 gives U as it is
        (the book's vectors), 1 gives U S, 0.5 is between them (Levy, Goldberg and Dagan, Improving
        Distributional Similarity with Lessons Learned from Word Embeddings, TACL 2015).
    seed : int
        Of the vector from which the search starts.

    Returns
    -------
    ndarray
        float64, shape (rows, vector_size), the largest singular value's column first. Of each
        column, the element of largest magnitude is positive, so that signs mean nothing.

    Raises
    ------
    ValueError
        If `vector_size` is below 1 or above the smaller size of the matrix, or that is all zeros.

    Examples
    --------
    >>> truncated_svd(np.diag([1.0, 3.0, 2.0]), 2, eigenvalue_weighting=1).round(6).tolist()
    [[0.0, 0.0], [3.0, 0.0], [0.0, 2.0]]
    """
    smaller = min(matrix.shape)
    if not 1 <= vector_size <= smaller:
        raise ValueError(f"vector_size must be in 1 ... {smaller}, got {vector_size}")
    if not (matrix != 0).sum():
        raise ValueError("matrix is all zeros: there is nothing to make vectors of")
    if 2 * vector_size < smaller:
        start = np.random.default_rng(seed).standard_normal(smaller)
        rows = sparse.csr_matrix(matrix, dtype=np.float64)
        u, s, _ = svds(rows, vector_size, v0=start, random_state=seed)
        order = np.argsort(-s, kind="stable")
        u, s = u[:, order], s[order]
    else:  # more than what iterations are good for
        dense = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
        u, s, _ = np.linalg.svd(dense.astype(np.float64), full_matrices=False)
        u, s = u[:, :vector_size], s[:vector_size]
    largest = np.abs(u).argmax(axis=0)
    u = u * np.where(u[largest, np.arange(vector_size)] < 0, -1.0, 1.0)
    return u if eigenvalue_weighting == 0 else u * s**eigenvalue_weighting


def fit_count_vectors(
    source: Source,
    words: Sequence[str] | None = None,
    *,
    window: int = 2,
    vector_size: int = 100,
    min_count: int = 1,
    max_final_vocab: int | None = None,
    weighting: str = "count",
    shift: float = 0.0,
    eigenvalue_weighting: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
) -> KeyedVectors:
    """Make word vectors from a text: co-occurrence, PPMI, truncated SVD.

    Parameters
    ----------
    source : path, iterable of lists of str, or integer tensors
        A text, as `seqkern.data.words` has it. Where `words` is given, a tensor (length,) holds
        places in `words`, and -1 ends a sentence.
    words : sequence of str, optional
        The words that get vectors; default all that `min_count` and `max_final_vocab` leave, by
        falling count (`WordCounts.prune`).
    window, weighting, threads
        As for `cooccurrence`.
    shift
        As for `ppmi`.
    vector_size, eigenvalue_weighting, seed
        As for `truncated_svd`.

    Returns
    -------
    KeyedVectors
        With counts.

    Raises
    ------
    OSError, TypeError, ValueError, IndexError
        As the functions that it calls.

    Examples
    --------
    >>> text = [["you", "say", "goodbye"], ["i", "say", "hello"]] * 2
    >>> vectors = fit_count_vectors(text, window=1, vector_size=2)
    >>> vectors.words[0], vectors["say"].shape, vectors.counts.tolist()
    ('say', torch.Size([2]), [4, 2, 2, 2, 2])
    """
    if words is None:
        words = count_words(source, threads=threads).prune(min_count, max_final_vocab).words
        ids = encode_words(source, words, threads=threads).ids
    elif isinstance(source, Tensor):
        ids = source
    else:
        ids = encode_words(source, words, threads=threads).ids
    pairs = cooccurrence(ids, len(words), window, weighting=weighting, threads=threads)
    vectors = truncated_svd(
        ppmi(pairs, shift=shift), vector_size, eigenvalue_weighting=eigenvalue_weighting, seed=seed
    )
    counts = torch.bincount(ids[ids >= 0], minlength=len(words))
    return KeyedVectors(words, torch.from_numpy(vectors).float(), counts)
