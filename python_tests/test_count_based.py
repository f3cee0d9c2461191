"""Vectors from counts: co-occurrence, PPMI and SVD against plain loops, the book's and scipy's."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from seqkern.data import load_corpus
from seqkern.vectors.book import cos_similarity, create_co_matrix, preprocess
from seqkern.vectors.count_based import cooccurrence, fit_count_vectors, ppmi, truncated_svd

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

DATA = Path(os.environ.get("SEQKERN_DATA", Path(__file__).parents[2] / "shared" / "data"))
PTB = DATA / "ptb"
SENTENCE = "You say goodbye and I say hello."


# Co-occurrence


def plain_cooccurrence(ids: list[int], vocab_size: int, window: int, weighting: str) -> np.ndarray:
    counts = np.zeros((vocab_size, vocab_size))
    for i, word in enumerate(ids):
        for j in range(i + 1, min(len(ids), i + window + 1)):
            if -1 in ids[i : j + 1]:
                continue
            weight = 1 / (j - i) if weighting == "harmonic" else 1
            counts[word, ids[j]] += weight
            counts[ids[j], word] += weight
    return counts


@settings(deadline=None)
@given(
    st.lists(st.integers(-1, 6), max_size=60),
    st.sampled_from([7, 9, 300]),
    st.sampled_from([1, 2, 5, 100]),
    st.sampled_from(["count", "harmonic"]),
    st.sampled_from([torch.int8, torch.int32, torch.int64]),
)
def test_cooccurrence_is_that_of_plain_loops(
    ids: list[int], vocab_size: int, window: int, weighting: str, dtype: torch.dtype
) -> None:
    tensor = torch.tensor(ids, dtype=dtype)
    expected = plain_cooccurrence(ids, vocab_size, window, weighting)
    for threads in (1, 3):
        counts = cooccurrence(tensor, vocab_size, window, weighting=weighting, threads=threads)
        assert counts.dtype == (np.float64 if weighting == "harmonic" else np.int64)
        assert counts.has_canonical_format and (counts.data > 0).all()
        if weighting == "count":
            assert np.array_equal(counts.toarray(), expected)
        else:
            np.testing.assert_allclose(counts.toarray(), expected, rtol=1e-13)


@pytest.mark.parametrize("weighting", ["count", "harmonic"])
def test_cooccurrence_does_not_depend_on_threads(weighting: str) -> None:
    generator = np.random.default_rng(0)
    ids = np.minimum(generator.zipf(1.3, 200_000), 3000) - 1
    ids[generator.random(len(ids)) < 0.05] = -1
    one, *others = (
        cooccurrence(ids, 3000, 4, weighting=weighting, threads=threads) for threads in range(1, 9)
    )
    for other in others:
        for name in ("indptr", "indices", "data"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


def test_bad_arguments_of_cooccurrence_are_refused() -> None:
    ids = torch.tensor([0, 1])
    with pytest.raises(TypeError, match="ids must be integers, got float32"):
        cooccurrence(ids.float(), 2)
    with pytest.raises(ValueError, match=r"ids must have shape \(length,\), got \(1, 2\)"):
        cooccurrence(ids[None], 2)
    for name in ("vocab_size", "window", "threads"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1 .*, got 0"):
            cooccurrence(ids, **{"vocab_size": 2, name: 0})
    with pytest.raises(ValueError, match="weighting must be one of count, harmonic, got 'x'"):
        cooccurrence(ids, 2, weighting="x")
    for wrong in (-2, 2):
        for dtype in (torch.int32, torch.int64):
            with pytest.raises(IndexError, match=rf"is {wrong}|id {wrong}"):
                cooccurrence(torch.tensor([0, wrong], dtype=dtype), 2)
    with pytest.raises(IndexError, match=f"id {2**32} is none of"):
        cooccurrence(torch.tensor([2**32]), 2)


# PPMI


def book_ppmi(counts: np.ndarray, eps: float = 1e-8) -> np.ndarray:
    """The loops of the book's section 2.4.1."""
    result = np.zeros(counts.shape)
    total, sums = counts.sum(), counts.sum(axis=0)
    for i, j in np.ndindex(*counts.shape):
        if counts[i, j]:
            result[i, j] = max(0, np.log2(counts[i, j] * total / (sums[j] * sums[i]) + eps))
    return result


@given(st.lists(st.integers(0, 6), min_size=2, max_size=60), st.sampled_from([0.0, 0.5, 2.0]))
def test_ppmi_is_the_books(ids: list[int], shift: float) -> None:
    counts = cooccurrence(np.array(ids), 7)
    expected = book_ppmi(counts.toarray())
    for given_counts in (counts, counts.toarray(), counts.astype(float).tocoo()):
        found = ppmi(given_counts, shift=shift)
        assert sparse.issparse(found) and (found.data > 0).all()
        expected_shifted = np.where(expected > 0, np.maximum(expected - shift, 0), 0)
        np.testing.assert_allclose(found.toarray(), expected_shifted, atol=1e-12)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="counts must not be negative, got -1"):
        ppmi(np.array([[1, -1], [0, 2]]))


# SVD


@pytest.mark.parametrize(("rows", "columns", "size"), [(30, 30, 5), (40, 25, 10), (12, 30, 12)])
@pytest.mark.parametrize("power", [0, 0.5, 1])
def test_truncated_svd_is_that_of_the_dense_matrix(
    rows: int, columns: int, size: int, power: float
) -> None:
    matrix = np.random.default_rng(0).random((rows, columns))
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    expected = u[:, :size] * s[:size] ** power
    found = truncated_svd(sparse.csr_matrix(matrix), size, eigenvalue_weighting=power)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-9)
    assert (found.max(axis=0) >= -found.min(axis=0)).all()
    np.testing.assert_allclose(found, truncated_svd(matrix, size, eigenvalue_weighting=power))


def test_truncated_svd_gives_equal_results_each_time() -> None:
    matrix = sparse.random(200, 200, 0.05, random_state=0)
    first = truncated_svd(matrix, 20)
    assert all(np.array_equal(first, truncated_svd(matrix, 20)) for _ in range(3))
    np.testing.assert_allclose(first, truncated_svd(matrix, 20, seed=1), atol=1e-8)


@pytest.mark.parametrize("matrix", [np.zeros((10, 10)), sparse.csr_matrix((10, 10))])
def test_matrix_of_zeros_is_refused(matrix: sparse.csr_matrix | np.ndarray) -> None:
    for size in (2, 8):
        with pytest.raises(ValueError, match="matrix is all zeros"):
            truncated_svd(matrix, size)


def test_matrix_of_low_rank_gives_equal_results_each_time() -> None:
    generator = np.random.default_rng(0)
    matrix = generator.random((50, 3)) @ generator.random((3, 50))
    first = truncated_svd(matrix, 10, eigenvalue_weighting=1)
    assert np.array_equal(first, truncated_svd(matrix, 10, eigenvalue_weighting=1))
    np.testing.assert_allclose(first @ first.T, matrix @ matrix.T, atol=1e-6)


@pytest.mark.parametrize("size", [0, 4])
def test_vector_size_the_matrix_has_not_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"vector_size must be in 1 \.\.\. 3, got {size}"):
        truncated_svd(np.eye(3), size)


# The book's functions


def test_preprocess_numbers_the_books_sentence() -> None:
    corpus, word_to_id, id_to_word = preprocess(SENTENCE)
    assert corpus.tolist() == [0, 1, 2, 3, 4, 1, 5, 6]
    assert list(word_to_id) == ["you", "say", "goodbye", "and", "i", "hello", "."]
    assert id_to_word == {i: word for word, i in word_to_id.items()}


def test_co_matrix_is_the_books() -> None:
    corpus, word_to_id, _ = preprocess(SENTENCE)
    counts = create_co_matrix(corpus, len(word_to_id))
    assert counts.tolist() == [
        [0, 1, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 1, 1, 0],
        [0, 1, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 1, 0, 0],
        [0, 1, 0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 1, 0],
    ]
    # The book's similarity of "you" and "i", and its PPMI of "you" and "say".
    assert cos_similarity(counts[0], counts[4]) == pytest.approx(0.7071067691154799, abs=1e-7)
    assert ppmi(counts)[0, 1] == pytest.approx(1.807, abs=5e-4)


def test_cos_similarity_adds_eps_to_the_norms() -> None:
    small = np.array([3e-8, 4e-8])
    assert cos_similarity(small, small) == pytest.approx((5 / 6) ** 2)
    assert cos_similarity(np.zeros(2), np.ones(2)) == 0
    assert cos_similarity(small, small, eps=0) == pytest.approx(1)


# Vectors


def test_vectors_from_a_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("you say goodbye\n\ni say hello\n" * 3 + "once\n")
    found = fit_count_vectors(path, window=1, vector_size=3, min_count=2)
    assert found.words == ["say", "you", "goodbye", "i", "hello"]
    assert found.counts is not None and found.counts.tolist() == [6, 3, 3, 3, 3]
    assert found.vectors.shape == (5, 3) and found.vectors.dtype == torch.float32
    given_words = ["hello", "say", "i"]
    ids = torch.tensor([1, -1, 2, 1, 0, -1] * 3)
    of_ids = fit_count_vectors(ids, given_words, window=1, vector_size=2)
    of_text = fit_count_vectors(path, given_words, window=1, vector_size=2)
    assert of_ids.words == of_text.words == given_words
    assert torch.equal(of_ids.vectors, of_text.vectors)
    for counts in (of_ids.counts, of_text.counts):
        assert counts is not None and counts.tolist() == [3, 6, 3]


@pytest.mark.skipif(not PTB.is_dir(), reason=f"no Penn Treebank text at {PTB}")
def test_neighbours_on_the_penn_treebank_are_the_books() -> None:
    corpus = load_corpus(PTB)
    words = corpus.vocabulary.tokens
    vectors = fit_count_vectors(corpus.train, words, window=2, vector_size=100).vectors
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    for query, related in {
        "toyota": {"motor", "nissan", "honda", "lexus"},
        "year": {"month", "quarter", "years", "months"},
        "car": {"auto", "cars", "vehicle", "luxury"},
    }.items():
        nearest = (unit @ unit[words.index(query)]).topk(8).indices.tolist()
        assert related & {words[i] for i in nearest}, [words[i] for i in nearest]
