"""Checkpoint files: named tensors and JSON in one safetensors file, written whole or not at all.

A model's parameters stand under their own names, so that any safetensors reader gives a state_dict.
What resuming needs besides stands under names that begin with `training/`, and in the JSON. Nothing
is unpickled.
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

TRAINING = "training/"
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
    content = json.loads(header)
    if content["crc32"] != _checksum(tensors):
        raise ValueError(f"checkpoint {path} is corrupt: its checksum does not match its content")
    return tensors, content["meta"]


def model_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; of shared parameters, the first name only."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@torch.no_grad()
def load_model_tensors(
    model: torch.nn.Module, tensors: Mapping[str, Tensor], path: str | Path
) -> None:
    """Copy the parameters in a checkpoint's `tensors` into a model.

    Raises
    ------
    ValueError
        If names or shapes are not the model's; `path` is named in the message.
    """
    stored = {name: t for name, t in tensors.items() if not name.startswith(TRAINING)}
    own = model_tensors(model)
    if stored.keys() != own.keys():
        names = ", ".join(sorted(stored.keys() ^ own.keys()))
        raise ValueError(
            f"checkpoint {path} is of another model; these are in one of the two only: {names}"
        )
    for name, parameter in own.items():
        if stored[name].shape != parameter.shape:
            raise ValueError(
                f"checkpoint {path} is of another model: "
                f"{name} is {tuple(stored[name].shape)} there, {tuple(parameter.shape)} here"
            )
        parameter.copy_(stored[name])


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        value = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, value)
    return value
