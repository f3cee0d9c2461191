"""Of "Deep Learning from Scratch 2": chapter 2's functions by its names, chapter 4's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from seqkern.data.pickles import load_array_pickle
from seqkern.vectors.count_based import cooccurrence
from seqkern.vectors.keyed_vectors import KeyedVectors


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


def load_book_vectors(path: str | Path) -> KeyedVectors:
    """Read the vectors of the book's CBOW model, without running anything the file names.

    The file, cbow_params.pkl, is a pickled dict: `word_vecs` (V, D) is the matrix of the contexts'
    side, the only one it has; `id_to_word` is a dict from 0, 1, ... V - 1.

    Returns
    -------
    KeyedVectors
        Of float32, in the order of the ids.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, or holds anything else.

    Examples
    --------
    >>> import pickle, tempfile
    >>> content = {"word_vecs": np.eye(2, dtype=np.float16), "id_to_word": {0: "you", 1: "say"}}
    >>> path = Path(tempfile.mkdtemp()) / "cbow_params.pkl"
    >>> _ = path.write_bytes(pickle.dumps(content))
    >>> load_book_vectors(path)["say"]
    tensor([0., 1.])
    """
    content = load_array_pickle(path)
    try:
        vectors, words = content["word_vecs"], content["id_to_word"]
        words = [words[i] for i in range(len(words))]
        if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
            raise ValueError(
                f"word_vecs are {vectors.dtype} {vectors.shape}, expected floats (V, D)"
            )
        if not all(isinstance(word, str) for word in words):
            raise ValueError("id_to_word does not give strings")
        return KeyedVectors(words, torch.from_numpy(vectors.astype(np.float32)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no vectors of the book's CBOW: {error!r}") from error
