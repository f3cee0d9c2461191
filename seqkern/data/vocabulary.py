"""The two-way map between tokens and ids."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from seqkern.data.text import UNK


class Vocabulary:
    """Tokens numbered 0, 1, 2, ... in the order given.

    Parameters
    ----------
    tokens : sequence of str
        Distinct tokens. Where `<unk>` is among them, `encode` gives its id to tokens that are not.

    Attributes
    ----------
    tokens : tuple of str
        The token of every id.

    Raises
    ------
    ValueError
        If a token occurs twice.

    Examples
    --------
    >>> vocabulary = Vocabulary.build(["to", "be", "or", "not", "to", "be"])
    >>> vocabulary.tokens
    ('to', 'be', 'or', 'not', '<unk>')
    >>> vocabulary.encode(["not", "me"])
    tensor([3, 4])
    >>> vocabulary.decode([0, 1])
    ['to', 'be']
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tuple(tokens)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            repeated = next(token for token, n in Counter(self.tokens).items() if n > 1)
            raise ValueError(f"tokens must be distinct, got {repeated!r} more than once")

    @classmethod
    def build(cls, tokens: Sequence[str], max_size: int | None = None) -> Vocabulary:
        """Number the tokens of a text by first appearance.

        `<unk>` is part of every vocabulary built: where the text shows it, at its first appearance,
        else last.

        Parameters
        ----------
        tokens : sequence of str
            The text.
        max_size : int, optional
            Keep the most frequent tokens only (the earlier of two equally frequent ones), this many
            with `<unk>`.
        """
        kept = dict.fromkeys(tokens)
        kept.setdefault(UNK)
        if max_size is not None:
            if max_size < 2:
                raise ValueError(f"max_size must be at least 2, got {max_size}")
            counts = Counter(tokens)
            del counts[UNK]
            frequent = {token for token, _ in counts.most_common(max_size - 1)} | {UNK}
            kept = {token: None for token in kept if token in frequent}
        return cls(list(kept))

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    __hash__ = None  # type: ignore[assignment]

    def encode(self, tokens: Iterable[str]) -> Tensor:
        """Ids of tokens, int64 of shape (length,).

        Raises
        ------
        ValueError
            If a token is unknown and the vocabulary has no `<unk>`.
        """
        tokens = list(tokens)
        unk = self._ids.get(UNK, -1)
        ids = torch.tensor([self._ids.get(token, unk) for token in tokens], dtype=torch.int64)
        if unk < 0 and (ids < 0).any():
            token = tokens[int((ids < 0).int().argmax())]
            raise ValueError(f"token {token!r} is not in the vocabulary, which has no {UNK} either")
        return ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Tokens of ids.

        Raises
        ------
        IndexError
            If an id is outside 0 ... len - 1.
        """
        out = []
        for i in ids:
            if not 0 <= i < len(self.tokens):
                raise IndexError(f"id {i} is outside a vocabulary of {len(self.tokens):,} tokens")
            out.append(self.tokens[i])
        return out

    def save(self, path: str | Path) -> None:
        """Write the tokens as a JSON list."""
        Path(path).write_text(json.dumps(self.tokens, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file holds anything but a JSON list of distinct strings.
        """
        try:
            tokens = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(tokens, list) or not all(isinstance(t, str) for t in tokens):
                raise ValueError("expected a JSON list of strings")
            return cls(tokens)
        except ValueError as error:
            raise ValueError(f"{path} is not a vocabulary file: {error}") from error
