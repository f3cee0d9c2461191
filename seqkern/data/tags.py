"""Sequences of tokens with a tag each.

Read from files of two columns, `token tag` or `token<TAB>tag`, a blank line after each sentence (as
in the CoNLL shared tasks); or made of plain text, whose punctuation and capital letters are taken
away and become the tags. To put them back is a task that needs both directions: whether a sentence
ends after a word shows in what follows, and whether a word is capitalised in what precedes.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqkern.data.corpus import PYDOC_MAX_VOCABULARY, SPLITS, _read_text, _split_file
from seqkern.data.padded import encode_padded, split_indices
from seqkern.data.pydoc import pydoc_splits
from seqkern.data.text import split_paragraphs
from seqkern.data.vocabulary import Vocabulary

Sentence = list[tuple[str, str]]
"""Pairs of a token and its tag."""

MARKS = ",.:;?!"
_WORD = re.compile(r"\W*(.*\w)(\W*)")


@dataclass(frozen=True)
class Tagged:
    """Sentences, tokens down and sentences across.

    Attributes
    ----------
    tokens, tags : Tensor
        int64, shape (T, N); 0 after the end.
    lengths : Tensor
        int64, shape (N,): each at least 1.
    """

    tokens: Tensor
    lengths: Tensor
    tags: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (T', N'), lengths (N',) and tags (T', N') of some sentences.

        T' is the longest one's length.
        """
        lengths = self.lengths[index]
        steps = int(lengths.max())
        return self.tokens[:steps, index], lengths, self.tags[:steps, index]


@dataclass(frozen=True)
class TagData:
    """Tagged sentences in three parts.

    Attributes
    ----------
    vocabulary : Vocabulary
        Of the tokens for training, with `<unk>`.
    tags : tuple of str
        All tags, sorted.
    train, valid, test : Tagged
    """

    vocabulary: Vocabulary
    tags: tuple[str, ...]
    train: Tagged
    valid: Tagged
    test: Tagged


def load_tags(
    source: str | Path,
    *,
    text: bool = False,
    max_vocabulary: int | None = None,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    vocabulary: Vocabulary | None = None,
    tags: Sequence[str] | None = None,
) -> TagData:
    """Read tagged sentences and number their tokens and tags.

    Parameters
    ----------
    source : str or Path
        A folder with one file for each of train, valid and test, as of `load_corpus`; or one file,
        whose sentences are divided by chance; or "pydoc", the text that ships inside CPython.
    text : bool
        Whether the files are plain text, as pydoc's is, of which `restoration` makes sentences.
    max_vocabulary : int, optional
        Limit of the vocabulary's size, `<unk>` included; default 2500 for pydoc, else none.
    valid, test : float
        Shares of the sentences of one file.
    seed : int
        Of their division.
    vocabulary : Vocabulary, optional
        By which to number the tokens, as a trained model has them; `max_vocabulary` then has no
        say.
    tags : sequence of str, optional
        By which to number the tags; default those of the source, sorted.

    Returns
    -------
    TagData

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file, or a split is missing in the folder.
    ValueError
        If a file is no UTF-8 text, a line is not of two columns, a part has no sentence, or a tag
        is not one of `tags`.

    Examples
    --------
    >>> data = load_tags("pydoc")
    >>> len(data.vocabulary), data.tags[:3]
    (2500, ('Mixed', 'Mixed,', 'Mixed.'))
    """
    read = restoration if text or str(source) == "pydoc" else _columns
    if str(source) == "pydoc":
        parts = {split: restoration(written) for split, written in pydoc_splits().items()}
        max_vocabulary = max_vocabulary or PYDOC_MAX_VOCABULARY
    elif Path(source).is_dir():
        files = {split: _split_file(Path(source), split) for split in SPLITS}
        parts = {split: read(_read_text(file)) for split, file in files.items()}
    else:
        sentences = read(_read_text(Path(source)))
        divided = split_indices([0] * len(sentences), valid, test, seed)
        parts = {split: [sentences[i] for i in indices] for split, indices in divided.items()}
    for split in SPLITS:
        if not parts[split]:
            raise ValueError(f"the {split} part of {source} has no sentence")
    found = sorted({tag for part in parts.values() for s in part for _, tag in s})
    number = Vocabulary(found if tags is None else tags)
    if unknown := [tag for tag in found if tag not in number]:
        expected = ", ".join(number.tokens)
        raise ValueError(f"{source} has the tag {unknown[0]!r}, expected one of {expected}")
    if vocabulary is None:
        words = [token for sentence in parts["train"] for token, _ in sentence]
        vocabulary = Vocabulary.build(words, max_vocabulary)
    return TagData(
        vocabulary, number.tokens, *(_encode(parts[s], vocabulary, number) for s in SPLITS)
    )


def restoration(text: str, max_length: int = 60) -> list[Sentence]:
    """Take punctuation and capitals from a text, and make them the tags of its words.

    Parameters
    ----------
    text : str
        Paragraphs, with blank lines between them.
    max_length : int
        Words after which a paragraph is cut.

    Returns
    -------
    list of Sentence
        Words in small letters, with a tag each: "lower", "Title", "UPPER" or "Mixed", and after it
        the mark of `MARKS` that follows the word. Other symbols around words are left out.

    Raises
    ------
    ValueError
        If `max_length` is below 1.

    Examples
    --------
    >>> restoration("See (the) PEP. Is it so?")[0][:3]
    [('see', 'Title'), ('the', 'lower'), ('pep', 'UPPER.')]
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    sentences = []
    for paragraph in split_paragraphs(text):
        matches = [match for piece in paragraph.split() if (match := _WORD.fullmatch(piece))]
        pairs = [(m[1].lower(), _case(m[1]) + _mark(m[2])) for m in matches]
        sentences += [pairs[i : i + max_length] for i in range(0, len(pairs), max_length)]
    return sentences


def _case(word: str) -> str:
    if word == word.lower():
        return "lower"
    if word == word.capitalize():
        return "Title"
    return "UPPER" if word == word.upper() else "Mixed"


def _mark(symbols: str) -> str:
    return next((symbol for symbol in reversed(symbols) if symbol in MARKS), "")


def _columns(text: str) -> list[Sentence]:
    sentences: list[Sentence] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split("\t") if "\t" in line else line.split()
        if not line.strip():
            sentences.append([])
        elif len(fields) != 2 or not all(fields):
            raise ValueError(f"line {number}: expected a token and a tag, got {line!r}")
        else:
            sentences[-1].append((fields[0], fields[1]))
    return [sentence for sentence in sentences if sentence]


def _encode(sentences: Sequence[Sentence], vocabulary: Vocabulary, tags: Vocabulary) -> Tagged:
    tokens, lengths = encode_padded([[token for token, _ in s] for s in sentences], vocabulary)
    numbers, _ = encode_padded([[tag for _, tag in s] for s in sentences], tags)
    return Tagged(tokens, lengths, numbers)


def baselines(data: TagData, split: str = "test") -> dict[str, float]:
    """Accuracies of tagging without regard to other tokens.

    Parameters
    ----------
    data : TagData
    split : {"train", "valid", "test"}
        The part that is tagged.

    Returns
    -------
    dict of float
        "majority": each token gets the tag most frequent in the training part; "unigram": the tag
        most frequent there of this token.

    Examples
    --------
    >>> scores = baselines(load_tags("pydoc"))
    >>> 0.5 < scores["majority"] < scores["unigram"] < 1
    True
    """
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for token, tag in _pairs(data.train):
        counts[token][tag] += 1
    majority = Counter(tag for _, tag in _pairs(data.train)).most_common(1)[0][0]
    best = {token: of_token.most_common(1)[0][0] for token, of_token in counts.items()}
    pairs = _pairs(getattr(data, split))
    return {
        "majority": sum(tag == majority for _, tag in pairs) / len(pairs),
        "unigram": sum(tag == best.get(token, majority) for token, tag in pairs) / len(pairs),
    }


def _pairs(part: Tagged) -> list[tuple[int, int]]:
    within = torch.arange(len(part.tokens))[:, None] < part.lengths
    return list(zip(part.tokens[within].tolist(), part.tags[within].tolist(), strict=True))
