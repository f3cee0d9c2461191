"""Keyed vectors in one safetensors file.

Its tensors are ``vectors`` (V, d), ``words`` (the UTF-8 of all words, joined; uint8), ``offsets``
(V + 1, int64; word i is ``words[offsets[i]:offsets[i + 1]]``) and, where there are any, ``counts``
(V, int64). Any safetensors reader reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seqkern.data.files import replacing

__all__ = ["load", "save"]

_META = {"seqkern": "keyed vectors"}


def save(path: str | Path, words: Sequence[str], vectors: Tensor, counts: Tensor | None) -> None:
    """Write words, vectors (V, d) and counts (V,), whole or not at all.

    Raises
    ------
    OSError
        If the file cannot be written.
    UnicodeEncodeError
        If a word has no UTF-8 (lone surrogates).
    """
    encoded = [word.encode() for word in words]
    offsets = torch.tensor([0, *accumulate(map(len, encoded))], dtype=torch.int64)
    blob = torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy())
    tensors = {"vectors": vectors.cpu().contiguous(), "words": blob, "offsets": offsets}
    if counts is not None:
        tensors["counts"] = counts.cpu().contiguous()
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, _META)
        except SafetensorError as error:  # its name for what the system refuses
            raise OSError(f"{path} cannot be written: {error}") from error


def load(path: str | Path, mmap: bool = True) -> tuple[list[str], Tensor, Tensor | None]:
    """Read what `save` wrote: words, vectors, and counts or None.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, or no file of `save`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of vectors: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or corrupt: {error}") from error
    if meta.get("seqkern") != _META["seqkern"]:
        raise ValueError(f"{path} is a safetensors file, but none of keyed vectors of seqkern")
    try:
        words = _words(tensors["words"], tensors["offsets"], len(tensors["vectors"]))
    except (KeyError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} is corrupt: {error}") from error
    vectors = tensors["vectors"]
    counts = tensors.get("counts")
    return words, vectors if mmap else vectors.clone(), None if counts is None else counts.clone()


def _words(blob: Tensor, offsets: Tensor, size: int) -> list[str]:
    if (blob.dtype, offsets.dtype) != (torch.uint8, torch.int64):
        raise ValueError(f"words, offsets are {blob.dtype}, {offsets.dtype}, not uint8, int64")
    content, bounds = blob.numpy().tobytes(), offsets.tolist()
    if len(bounds) != size + 1 or bounds[0] != 0 or bounds[-1] != len(content):
        raise ValueError(f"its words do not match its {size:,} vectors")
    if (offsets.diff() < 0).any():
        raise ValueError("its offsets of words fall")
    return [content[start:end].decode() for start, end in pairwise(bounds)]
