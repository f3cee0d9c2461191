"""What a checkpoint file (seqkern.data.checkpoint) holds of a model and its training.

A model's parameters stand under their own names, so that any safetensors reader gives a state_dict.
What resuming needs besides stands under names that begin with `training/`, and in the JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

TRAINING = "training/"


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
