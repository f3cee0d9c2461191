"""The experiments of the model zoo: tasks, and presets of their settings.

A task's module is imported when the task is asked for, to keep short commands short.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from seqkern.tasks.presets import PRESETS, Preset

if TYPE_CHECKING:
    from seqkern.training.task import Task

__all__ = ["PRESETS", "TASKS", "Preset", "preset_config", "task_class"]

TASKS: dict[str, tuple[str, str, str]] = {
    "lm": ("a language model", "language", "LanguageTask"),
    "cbow": ("word vectors through autograd", "cbow", "WordTask"),
    "seq2seq": ("a sequence to sequence model", "seq2seq", "Seq2seqTask"),
    "series": ("a model of a time series", "series", "SeriesTask"),
    "names": ("a classifier of names", "names", "NamesTask"),
    "name-generation": ("a generator of names", "name_generation", "NameGenerationTask"),
    "tags": ("a tagger of tokens", "tagging", "TaggingTask"),
}
"""What each family is, its module here, and its class there."""


def task_class(family: str) -> type[Task[Any]]:
    """The class of a family of tasks.

    Raises
    ------
    ValueError
        If there is no such family.

    Examples
    --------
    >>> task_class("lm").score
    'perplexity'
    """
    if family not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {family!r}")
    _, module, name = TASKS[family]
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def preset_config(name: str, **settings: Any) -> Any:
    """The settings of a preset, some of them changed; of the task's class `Config`.

    Examples
    --------
    >>> preset_config("better-rnnlm", epochs=1).hidden_size
    650
    """
    preset = PRESETS[name]
    return task_class(preset.task).Config(**{**preset.settings, **settings})
