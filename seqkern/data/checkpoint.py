"""Checkpoint files: named tensors and JSON in one safetensors file, written whole or not at all.

Nothing is unpickled, and a checksum tells what was changed since.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from seqkern.data.files import replacing

_KEY = "seqkern"


def save_checkpoint(
    path: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> None:
    """Write a checkpoint.

    The file is written under a temporary name, flushed to the disk and renamed: at every moment
    `path` holds the old checkpoint or the new one.

    Parameters
    ----------
    path : str or Path
    tensors : mapping of str to Tensor
    meta : mapping
        Anything JSON can hold.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "last.safetensors"
    >>> save_checkpoint(path, {"weight": torch.ones(2)}, {"epoch": 3})
    >>> load_checkpoint(path)
    ({'weight': tensor([1., 1.])}, {'epoch': 3})
    """
    host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {_KEY: json.dumps({"meta": dict(meta), "crc32": _checksum(host)})}
    with replacing(path) as temporary:
        temporary.write_bytes(save(host, header))


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint onto the CPU.

    Returns
    -------
    tensors : dict of str to Tensor
    meta : dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, corrupt, or no checkpoint of seqkern.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such checkpoint: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"checkpoint {path} is truncated or corrupt: {error}") from error
    if header is None:
        raise ValueError(f"{path} is a safetensors file, but no checkpoint of seqkern")
    try:
        content = json.loads(header)
        checksum, meta = content["crc32"], content["meta"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no checkpoint of seqkern, or corrupt: {error!r}") from error
    if checksum != _checksum(tensors):
        raise ValueError(f"checkpoint {path} is corrupt: its checksum does not match its content")
    return tensors, meta


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        value = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, value)
    return value
