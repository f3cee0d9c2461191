"""A text as three tensors of token ids: train, valid, test."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from seqkern.data.pydoc import pydoc_splits
from seqkern.data.text import tokenize
from seqkern.data.vocabulary import Vocabulary

SPLITS = ("train", "valid", "test")
PYDOC_MAX_VOCABULARY = 2500
_SPLIT_NAMES = {"train": "train|training", "valid": "valid|validation|val|dev", "test": "test"}


@dataclass(frozen=True)
class Corpus:
    """Token ids of a text.

    Attributes
    ----------
    vocabulary : Vocabulary
    level : str
        How the text was split into tokens: "word", "text", "char" or "letters".
    train, valid, test : Tensor
        int64, shape (length,).
    """

    vocabulary: Vocabulary
    level: str
    train: Tensor
    valid: Tensor
    test: Tensor

    def split(self, name: str) -> Tensor:
        """The tokens of "train", "valid" or "test"."""
        if name not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {name!r}")
        return getattr(self, name)


def load_corpus(
    source: str | Path,
    level: str | None = None,
    *,
    max_words: int | None = None,
    max_vocabulary: int | None = None,
    vocabulary: Vocabulary | None = None,
) -> Corpus:
    """Read a corpus and number its tokens.

    Parameters
    ----------
    source : str or Path
        A folder with one UTF-8 file for each of train, valid and test, with any prefix and suffix
        (`ptb.train.txt`); or one text file, of whose tokens the first 80 % train, the next 10 %
        validate and the last 10 % test; or "pydoc", the text that ships inside CPython.
    level : str, optional
        "word", "text", "char" or "letters"; default "text" for pydoc, else "word".
    max_words : int, optional
        Keep only this many tokens of the training text.
    max_vocabulary : int, optional
        Limit of the vocabulary's size; default 2500 for pydoc at level "text", else none.
    vocabulary : Vocabulary, optional
        Use this one; by default it is built from the training text, ids by first appearance.

    Returns
    -------
    Corpus

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file, or a split is missing in the folder.
    ValueError
        If a file is no UTF-8 text or holds no token, two files fit one split, or a token is unknown
        to a `vocabulary` without `<unk>`.

    Examples
    --------
    >>> corpus = load_corpus("pydoc")
    >>> len(corpus.vocabulary) <= 2500, corpus.train.dtype
    (True, torch.int64)
    """
    pydoc = str(source) == "pydoc"
    level = level or ("text" if pydoc else "word")
    if pydoc and level == "text" and max_vocabulary is None:
        max_vocabulary = PYDOC_MAX_VOCABULARY
    if max_words is not None and max_words < 1:
        raise ValueError(f"max_words must be at least 1, got {max_words}")
    tokens = _read_tokens(source, level)
    for split in SPLITS:
        if not tokens[split]:
            raise ValueError(f"the {split} text of {source} is empty")
    tokens["train"] = tokens["train"][:max_words]
    vocabulary = vocabulary or Vocabulary.build(tokens["train"], max_vocabulary)
    return Corpus(vocabulary, level, *(vocabulary.encode(tokens[split]) for split in SPLITS))


def _read_tokens(source: str | Path, level: str) -> dict[str, list[str]]:
    path = Path(source)
    if str(source) == "pydoc":
        return {split: tokenize(text, level) for split, text in pydoc_splits().items()}
    if path.is_dir():
        return {s: tokenize(_read_text(_split_file(path, s)), level) for s in SPLITS}
    tokens = tokenize(_read_text(path), level)
    first, second = len(tokens) * 8 // 10, len(tokens) * 9 // 10
    return {"train": tokens[:first], "valid": tokens[first:second], "test": tokens[second:]}


def _split_file(folder: Path, split: str) -> Path:
    # Letters must not touch the word: "contest.txt" is no test text.
    pattern = re.compile(rf"(?<![a-z])({_SPLIT_NAMES[split]})(?![a-z])", re.IGNORECASE)
    files = sorted(
        p for p in folder.iterdir() if p.is_file() and p.name[0] != "." and pattern.search(p.name)
    )
    if not files:
        raise FileNotFoundError(
            f"folder {folder} has no {split} text (a file named like ptb.{split}.txt)"
        )
    if len(files) > 1:
        names = ", ".join(p.name for p in files)
        raise ValueError(f"folder {folder} must have one {split} text, got {names}")
    return files[0]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"no such text file or folder: {path}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
