"""Models of a task by name, built by those of its settings that their constructors take."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch

from seqkern.training.config import settings

Models = Mapping[str, type[torch.nn.Module]]


def build(models: Models, config: Any) -> torch.nn.Module:
    """The model `config.model`, by the settings that it takes; None leaves its own default."""
    model = models[config.model]
    given = {name: getattr(config, name) for name in _taken(model) & settings(type(config)).keys()}
    return model(**{name: value for name, value in given.items() if value is not None})


def check(models: Models, config: Any, shared: Collection[str] = ()) -> None:
    """ValueError if a setting of other models than the settings' own is not at its default.

    `shared` are settings that not only models take.
    """
    others = set[str]().union(*map(_taken, models.values())) - _taken(models[config.model])
    for name in sorted((others & settings(type(config)).keys()).difference(shared)):
        value = getattr(config, name)
        if value != getattr(type(config), name):
            raise ValueError(f"model {config.model} takes no {name}, got {value!r}")


def _taken(model: type[torch.nn.Module]) -> set[str]:
    return set(inspect.signature(model.__init__).parameters)
