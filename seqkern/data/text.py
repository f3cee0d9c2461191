"""Text to tokens and back, at four levels.

word  whitespace-separated words; every line, a blank one too, ends in `<eos>` (so are the Penn
      Treebank's words counted, and the book's ids made)
text  running prose: words and punctuation marks apart, every paragraph ends in `<eos>`, ruler
      lines such as `-----` are dropped
char  every character, line breaks included
letters  a to z and single spaces: every run of anything else is one space, letters are lower-cased,
      and lines are stripped and joined with nothing between (so does "Dive into Deep Learning" read
      The Time Machine)
"""

from __future__ import annotations

import re
from collections.abc import Iterable

EOS = "<eos>"
UNK = "<unk>"
LEVELS = ("word", "text", "char", "letters")

_RULER = re.compile(r"([^\w\s.])\1{2,}")
_PROSE = re.compile(r"<unk>|\d+\.\d+|\w+(?:['’-]\w+)*|\.{3}|::=|->|[^\w\s]")
_NO_LETTERS = re.compile("[^a-z]+")
_NO_SPACE_BEFORE = frozenset(".,;:!?)]}…’”%")
_NO_SPACE_AFTER = frozenset("([{‘“")


def tokenize(text: str, level: str) -> list[str]:
    """Split text into tokens.

    Parameters
    ----------
    text : str
    level : str
        "word", "text", "char" or "letters"; see the module's description.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If `level` is none of the four.

    Examples
    --------
    >>> tokenize("the cat sat\\non the mat\\n", "word")
    ['the', 'cat', 'sat', '<eos>', 'on', 'the', 'mat', '<eos>']
    >>> tokenize('It is "None",\\nor not.', "text")
    ['It', 'is', '"', 'None', '"', ',', 'or', 'not', '.', '<eos>']
    """
    if level == "word":
        lines = text.removesuffix("\n").split("\n") if text else []
        return [token for line in lines for token in (*line.split(), EOS)]
    if level == "text":
        paragraphs = (_PROSE.findall(_RULER.sub(" ", p)) for p in split_paragraphs(text))
        return [token for words in paragraphs if words for token in (*words, EOS)]
    if level == "char":
        return list(text)
    if level == "letters":
        return list("".join(_NO_LETTERS.sub(" ", s).strip() for s in text.lower().split("\n")))
    raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")


def split_paragraphs(text: str) -> list[str]:
    """Split text at blank lines."""
    return re.split(r"\n\s*\n", text)


def detokenize(tokens: Iterable[str], level: str) -> str:
    """Join tokens into readable text; `<eos>` becomes a line break.

    Examples
    --------
    >>> detokenize(['It', 'is', '"', 'None', '"', ',', 'or', 'not', '.', '<eos>'], "text")
    'It is "None", or not.\\n'
    """
    if level in ("char", "letters"):
        return "".join(tokens)
    pieces: list[str] = []
    glue = True  # whether the next token follows without a space
    quoted = False
    for token in tokens:
        if token == EOS:
            pieces.append("\n")
            glue, quoted = True, False
            continue
        prose = level == "text"
        closes = prose and (token in _NO_SPACE_BEFORE or (token == '"' and quoted))
        pieces.append(token if glue or closes else " " + token)
        glue = prose and (token in _NO_SPACE_AFTER or (token == '"' and not quoted))
        quoted ^= token == '"'
    return "".join(pieces)
