"""Names with the classes they belong to, as characters' ids.

Read from a folder with a text file for each class, from a file of lines `name<TAB>class`, or from a
file of names alone. A line holds a name; blank lines and lines that start with `#` are left out,
and so are spaces around a name. Files are UTF-8; names are brought to Unicode's normal form C, in
which a letter with its accent is one character wherever Unicode has one for both. Characters are
code points.

A name that is given a class more than once counts once. One that has several classes, such as a
name of both men and women, is an example of each of them; no classifier that sees the name alone
is right for all (`Names.accuracy_bound`).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqkern.data.padded import encode_padded, split_indices
from seqkern.data.text import UNK
from seqkern.data.vocabulary import Vocabulary

UNKNOWN = ("map", "drop")

_Example = tuple[str, list[str], int]


@dataclass(frozen=True)
class Names:
    """Names, characters down and names across.

    Attributes
    ----------
    texts : tuple of str
        The N names, with all their characters.
    tokens : Tensor
        int64, shape (T, N): ids of the characters, 0 after the end.
    lengths : Tensor
        int64, shape (N,): each at least 1.
    labels : Tensor
        int64, shape (N,): the classes; 0 where there are none.
    """

    texts: tuple[str, ...]
    tokens: Tensor
    lengths: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def accuracy_bound(self) -> float:
        """Greatest accuracy that a function of the name can have here."""
        return len(set(self.texts)) / len(self)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (T', N'), lengths and labels (N',) of some names, T' the longest one's length."""
        lengths = self.lengths[index]
        return self.tokens[: int(lengths.max()), index], lengths, self.labels[index]


@dataclass(frozen=True)
class NameData:
    """Names in three parts; no name is in two of them.

    Attributes
    ----------
    vocabulary : Vocabulary
        Of the characters.
    classes : tuple of str
        Their names, sorted; empty if there are none.
    train, valid, test : Names
    """

    vocabulary: Vocabulary
    classes: tuple[str, ...]
    train: Names
    valid: Names
    test: Names


def load_names(
    source: str | Path,
    *,
    lower: bool = False,
    max_characters: int | None = None,
    unknown: str = "map",
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    vocabulary: Vocabulary | None = None,
    classes: Sequence[str] | None = None,
) -> NameData:
    """Read names, split them, and number their characters.

    Parameters
    ----------
    source : str or Path
        A folder with a file `CLASS.txt` for each class; or one file, of lines `name<TAB>class` or
        of names alone. One class alone is none.
    lower : bool
        Whether to make all letters small.
    max_characters : int, optional
        Keep the characters most frequent in the names for training, this many; default all.
    unknown : str
        What becomes of the characters of a name that are not kept, or not among the names for
        training: "map" makes them `<unk>`, "drop" leaves them out, and with them a name of which
        nothing is left.
    valid, test : float
        Shares of the names, about the same of every set of classes.
    seed : int
        Of the split.
    vocabulary : Vocabulary, optional
        By which to number the characters, as a trained model has them; `max_characters` and
        `unknown` then have no say.
    classes : sequence of str, optional
        By which to number the classes; default those of the source, sorted.

    Returns
    -------
    NameData

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or no `.txt` file in the folder.
    ValueError
        If a file is no UTF-8 text, one line has a class and another none or several, a part has no
        name, a class is not one of `classes`, or an argument is out of range.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "fruit.txt").write_text("fig\\nplum\\npear\\nlime\\ndate\\n")
    >>> _ = (folder / "bird.txt").write_text("gull\\nrook\\nwren\\nlark\\ntern\\n")
    >>> data = load_names(folder, valid=0.2, test=0.2)
    >>> data.classes, data.train.tokens.shape, len(data.valid), len(data.test)
    (('bird', 'fruit'), torch.Size([4, 6]), 2, 2)
    """
    if unknown not in UNKNOWN:
        raise ValueError(f"unknown must be one of {', '.join(UNKNOWN)}, got {unknown!r}")
    if max_characters is not None and max_characters < 1:
        raise ValueError(f"max_characters must be at least 1, got {max_characters}")
    labels_of = _read(Path(source), lower)
    found = sorted({label for labels in labels_of.values() for label in labels})
    if len(found) == 1 and not classes:
        found, labels_of = [], {name: set() for name in labels_of}
    classes = tuple(found if classes is None else classes)
    if not set(found) <= set(classes) or (classes and not found):
        given, expected = (", ".join(some) or "none" for some in (found, classes))
        raise ValueError(f"{source} has the classes {given}, expected some of {expected}")
    names = list(labels_of)
    strata = [tuple(sorted(labels_of[name])) for name in names]
    parts = {
        part: [names[i] for i in indices]
        for part, indices in split_indices(strata, valid, test, seed).items()
    }
    if vocabulary is None:
        vocabulary = _characters(parts["train"], max_characters, unknown)

    number = {label: i for i, label in enumerate(classes)} or {"": 0}
    encoded = []
    for part in ("train", "valid", "test"):
        examples = [
            (n, number[label]) for n in parts[part] for label in sorted(labels_of[n] or [""])
        ]
        if not (kept := _keep(examples, vocabulary)):
            raise ValueError(f"the {part} part of {source} has no name")
        encoded.append(_encode(kept, vocabulary))
    return NameData(vocabulary, classes, *encoded)


def encode_names(
    names: Sequence[str], vocabulary: Vocabulary, lower: bool = False
) -> tuple[Tensor, Tensor]:
    """Names as `load_names` encodes them.

    Parameters
    ----------
    names : sequence of str
        N of them.
    vocabulary : Vocabulary
        Of the characters. Without `<unk>`, others are left out.
    lower : bool
        Whether to make all letters small.

    Returns
    -------
    tokens : Tensor
        int64, shape (T, N).
    lengths : Tensor
        int64, shape (N,).

    Raises
    ------
    ValueError
        If there is no name, or one of which nothing is left.

    Examples
    --------
    >>> tokens, lengths = encode_names(["Abba", "Ba"], Vocabulary(["a", "b"]), lower=True)
    >>> tokens.T.tolist(), lengths.tolist()
    ([[0, 1, 1, 0], [1, 0, 0, 0]], [4, 2])
    """
    kept = [_keep([(_normalize(name.strip(), lower), 0)], vocabulary) for name in names]
    if [] in kept:
        lost = names[kept.index([])]
        raise ValueError(f"the name {lost!r} has no character of the vocabulary")
    encoded = _encode([example for (example,) in kept], vocabulary)
    return encoded.tokens, encoded.lengths


def _read(source: Path, lower: bool) -> dict[str, set[str]]:
    """Names in their order, each with its classes."""
    if source.is_dir():
        files = sorted(source.glob("*.txt"))
        if not files:
            raise FileNotFoundError(f"folder {source} has no names (a file CLASS.txt a class)")
        pairs = [(name, file.stem) for file in files for name in _lines(file)]
    else:
        lines = _lines(source)
        labelled = any("\t" in line for line in lines)
        pairs = [_pair(line, source) if labelled else (line, "") for line in lines]
    names: dict[str, set[str]] = {}
    for name, label in pairs:
        names.setdefault(_normalize(name, lower), set()).update([label] if label else [])
    return names


def _normalize(name: str, lower: bool) -> str:
    return unicodedata.normalize("NFC", name.lower() if lower else name)


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file or folder of names: {file}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error}") from error
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and line[0] != "#"]


def _pair(line: str, file: Path) -> tuple[str, str]:
    fields = [field.strip() for field in line.split("\t")]
    if len(fields) != 2 or not all(fields):
        raise ValueError(f"{file}: expected a name, a tab and a class, got the line {line!r}")
    return fields[0], fields[1]


def _characters(names: Sequence[str], count: int | None, unknown: str) -> Vocabulary:
    """The most frequent characters, the earlier of two equally frequent ones."""
    kept = [character for character, _ in Counter("".join(names)).most_common(count)]
    return Vocabulary([*kept, UNK] if unknown == "map" else kept)


def _keep(examples: Sequence[tuple[str, int]], vocabulary: Vocabulary) -> list[_Example]:
    """Names with the characters they keep, less the names that keep none."""
    maps = UNK in vocabulary
    kept = [(text, [c for c in text if maps or c in vocabulary], label) for text, label in examples]
    return [example for example in kept if example[1]]


def _encode(examples: Sequence[_Example], vocabulary: Vocabulary) -> Names:
    tokens, lengths = encode_padded([characters for _, characters, _ in examples], vocabulary)
    labels = torch.tensor([label for _, _, label in examples])
    return Names(tuple(text for text, _, _ in examples), tokens, lengths, labels)
