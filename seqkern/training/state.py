"""Optimiser and random generators as named tensors plus JSON, and back, exactly."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state: tensors by "index/name", and the rest as JSON."""
    content = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, entries in content["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, Tensor) else values)[f"{index}/{name}"] = value
    return tensors, {"values": values, "groups": content["param_groups"]}


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], content: Mapping[str, Any]
) -> None:
    """Restore what `pack_optimizer` gave."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **content["values"]}.items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": content["groups"]})


def pack_rng() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """States of the global generators of Python, NumPy and torch (CPU and every GPU)."""
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return tensors, {"python": random.getstate(), "numpy": [name, np.asarray(keys).tolist(), *rest]}


def unpack_rng(tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Restore what `pack_rng` gave."""
    version, words, gauss = content["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = content["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(tensors["cpu"])
    for i in range(torch.cuda.device_count()):
        if f"cuda{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda{i}"], i)
