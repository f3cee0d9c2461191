"""The English text that ships inside every CPython: the topics of `help()`.

The text differs between Python versions, so nothing may depend on its exact counts.
"""

from __future__ import annotations

from seqkern.data.text import split_paragraphs


def pydoc_splits() -> dict[str, str]:
    """Text for training, validation and test.

    Topics share many paragraphs; each is kept once, so that no test paragraph stands in the
    training text. Of every 20 paragraphs one goes to the validation text and one to the test text.

    Returns
    -------
    dict of str
        "train", "valid" and "test".

    Raises
    ------
    FileNotFoundError
        If this Python was installed without the module pydoc_data.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise FileNotFoundError(
            "this Python lacks pydoc_data.topics, a part of CPython's standard library; "
            "give a text of your own"
        ) from error
    paragraphs = {
        " ".join(p.split()): p for name in sorted(topics) for p in split_paragraphs(topics[name])
    }
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for i, paragraph in enumerate(paragraphs.values()):
        parts[{18: "valid", 19: "test"}.get(i % 20, "train")].append(paragraph)
    return {split: "\n\n".join(kept) for split, kept in parts.items()}
