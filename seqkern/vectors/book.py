"""Small functions of "Deep Learning from Scratch 2", chapter 2, under the book's names."""

from __future__ import annotations

import numpy as np

from seqkern.vectors.count_based import cooccurrence


def preprocess(text: str) -> tuple[np.ndarray, dict[str, int], dict[int, str]]:
    """Number the words of a text by first appearance.

    Parameters
    ----------
    text : str
        Words stand between spaces; case is dropped, and every full stop is a word.

    Returns
    -------
    corpus : ndarray
        int64, shape (length,): the ids of the words.
    word_to_id, id_to_word : dict

    Examples
    --------
    >>> corpus, word_to_id, id_to_word = preprocess("You say goodbye and I say hello.")
    >>> corpus
    array([0, 1, 2, 3, 4, 1, 5, 6])
    >>> id_to_word[1], word_to_id["hello"]
    ('say', 5)
    """
    words = text.lower().replace(".", " . ").split()
    word_to_id = {word: i for i, word in enumerate(dict.fromkeys(words))}
    corpus = np.array([word_to_id[word] for word in words], dtype=np.int64)
    return corpus, word_to_id, {i: word for word, i in word_to_id.items()}


def create_co_matrix(corpus: np.ndarray, vocab_size: int, window_size: int = 1) -> np.ndarray:
    """Count co-occurring words in a dense matrix; `cooccurrence` does it in a sparse one.

    Parameters
    ----------
    corpus : ndarray
        Ids, shape (length,), one sentence.
    vocab_size, window_size : int

    Returns
    -------
    ndarray
        int64, shape (vocab_size, vocab_size).

    Examples
    --------
    >>> create_co_matrix(np.array([0, 1, 0, 2]), 3).tolist()
    [[0, 2, 1], [2, 0, 0], [1, 0, 0]]
    """
    return cooccurrence(corpus, vocab_size, window_size).toarray()


def cos_similarity(x: np.ndarray, y: np.ndarray, eps: float = 1e-8) -> float:
    """Cosine of the angle between two vectors (length,).

    `eps` is added to the norms, not under their roots: a vector of zeros is like none (0), and
    others lose a part in 1e8 of their norm.

    Examples
    --------
    >>> round(cos_similarity(np.array([1, 0]), np.array([3, 3])), 6)
    0.707107
    """
    unit_x = x / (np.sqrt(np.sum(np.square(x))) + eps)
    unit_y = y / (np.sqrt(np.sum(np.square(y))) + eps)
    return float(unit_x @ unit_y)
