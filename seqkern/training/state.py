"""Recurrent state, optimiser and random generators as tensors plus JSON, and back, exactly."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = Tensor | tuple["State", ...]
"""A recurrent state: a tensor, or tuples of them."""


def detach(state: State) -> State:
    """The state without its history."""
    return state.detach() if isinstance(state, Tensor) else tuple(detach(s) for s in state)


def pack_state(state: State | None, name: str) -> dict[str, Tensor]:
    """The tensors of a state, by names that begin with `name`.

    Examples
    --------
    >>> sorted(pack_state((torch.ones(1), (torch.zeros(1), torch.ones(1))), "state"))
    ['state.0', 'state.1.0', 'state.1.1']
    """
    if state is None or isinstance(state, Tensor):
        return {} if state is None else {name: state}
    return {k: t for i, s in enumerate(state) for k, t in pack_state(s, f"{name}.{i}").items()}


def unpack_state(
    tensors: Mapping[str, Tensor], name: str, device: torch.device | str
) -> State | None:
    """Restore what `pack_state` gave."""
    if name in tensors:
        return tensors[name].to(device)
    if not any(key.startswith(f"{name}.") for key in tensors):
        return None
    parts: list[State] = []
    while (part := unpack_state(tensors, f"{name}.{len(parts)}", device)) is not None:
        parts.append(part)
    return tuple(parts)


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
