"""The settings of a run, declared once: checks, command-line options and the file follow."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

NONE = "none"  # how a file and the command line write None

C = TypeVar("C", bound="RunConfig")


@dataclass(frozen=True)
class Setting:
    """What is known of a setting besides its name and default.

    Attributes
    ----------
    help : str
        Half a line for the command line.
    choices : tuple of str, optional
        The values admitted.
    at_least, above, below : float, optional
        Bounds.
    decided : bool
        Whether the data decides it (a vocabulary's size), so that it cannot be chosen.
    resumable : bool
        Whether it may change when a run is resumed.
    evaluation : bool
        Whether it may change when a trained model is evaluated.
    kind : type
        bool, int, float or str.
    optional : bool
        Whether it may be None.
    """

    help: str
    choices: tuple[str, ...] | None = None
    at_least: float | None = None
    above: float | None = None
    below: float | None = None
    decided: bool = False
    resumable: bool = False
    evaluation: bool = False
    kind: type = str
    optional: bool = False

    def check(self, name: str, value: Any) -> None:
        """ValueError if the value is not one of this setting."""
        if value is None and self.optional:
            return
        # An int will do for a float; a bool is no number.
        kinds = (int, float) if self.kind is float else self.kind
        if not isinstance(value, kinds) or (isinstance(value, bool) and self.kind is not bool):
            kind = self.kind.__name__ + (f" or {NONE}" if self.optional else "")
            raise ValueError(f"{name} must be {kind}, got {value!r}")
        if self.choices is not None and value not in self.choices:
            raise ValueError(f"{name} must be one of {', '.join(self.choices)}, got {value!r}")
        bounds = [
            ("at least", self.at_least, lambda bound: value >= bound),
            ("above", self.above, lambda bound: value > bound),
            ("below", self.below, lambda bound: value < bound),
        ]
        if not all(bound is None or holds(bound) for _, bound, holds in bounds):
            told = " and ".join(f"{words} {b:g}" for words, b, _ in bounds if b is not None)
            raise ValueError(f"{name} must be {told}, got {value}")

    def parse(self, text: str) -> Any:
        """The value that the command line writes so."""
        return None if self.optional and text == NONE else self.kind(text)


def setting(default: Any, help: str, **about: Any) -> Any:
    """A field of a `RunConfig`; `about` are attributes of `Setting`."""
    return field(default=default, metadata={"setting": Setting(help, **about)})


@dataclass(frozen=True)
class RunConfig:
    """Settings that all tasks share; a task adds its own in a subclass.

    A subclass may give another default to a setting of this class plainly, `lr: float = 20.0`.
    Types are bool, int, float, str, or one of these `| None`.

    Raises
    ------
    ValueError
        If a setting is outside its range.

    Examples
    --------
    >>> RunConfig(lr=0)
    Traceback (most recent call last):
    ...
    ValueError: lr must be above 0, got 0
    >>> sorted(settings(RunConfig))[:3]
    ['averaging_window', 'backend', 'batch_size']
    """

    data: str = setting("", "a path, or the name of data that the task makes", decided=True)
    batch_size: int = setting(20, "examples or lanes of a batch", at_least=1)
    optimizer: str = setting(
        "adam",
        "update rule; adam-hat adds eps before the bias correction",
        choices=("sgd", "adam", "adam-hat", "nt-asgd"),
    )
    averaging_window: int = setting(
        5, "nt-asgd: latest epochs that a new score is not compared with", at_least=1
    )
    lr: float = setting(0.001, "learning rate at the start", above=0)
    lr_decay: float = setting(
        1.0, "divides lr after an epoch without a new best (1: never)", at_least=1
    )
    schedule: str = setting(
        "none", "linear: lr falls to 0 over all epochs' iterations", choices=("none", "linear")
    )
    eps: float = setting(1e-8, "Adam's eps", at_least=0)
    weight_decay: float = setting(0.0, "times the weights is added to gradients", at_least=0)
    clip: float | None = setting(None, "limit of the gradients' global norm", above=0)
    epochs: int = setting(10, "times the data is gone through", at_least=1, resumable=True)
    monitor: str = setting("valid", "figures that tell the best epoch", choices=("valid", "train"))
    seed: int = setting(0, "of all random numbers", at_least=0)
    dtype: str = setting(
        "float32", "of the layers' arithmetic (autocast)", choices=("float32", "bfloat16")
    )
    compile: bool = setting(False, "use torch.compile")
    backend: str = setting(
        "seqkern",
        "build the model on seqkern's layers, or on those of torch",
        choices=("seqkern", "torch"),
    )
    checkpoint_seconds: float = setting(
        60.0, "most time between two checkpoints", at_least=0, resumable=True
    )
    checkpoint_iterations: int | None = setting(
        None, "most iterations between two checkpoints", at_least=1, resumable=True
    )

    def __post_init__(self) -> None:
        for name, about in settings(type(self)).items():
            about.check(name, getattr(self, name))
        if self.optimizer == "nt-asgd":
            for name, needed in (("lr_decay", 1), ("monitor", "valid")):
                if (value := getattr(self, name)) != needed:
                    raise ValueError(f"{name} must be {needed} with nt-asgd, got {value}")
        if self.schedule != "none" and self.lr_decay != 1:
            raise ValueError(
                f"lr_decay must be 1 with schedule {self.schedule}, got {self.lr_decay:g}"
            )

    def to_mapping(self) -> dict[str, Any]:
        """The settings as a TOML file holds them."""
        return {name: NONE if v is None else v for name, v in asdict(self).items()}

    @classmethod
    def from_mapping(cls: type[C], values: Mapping[str, Any]) -> C:
        """The settings that a TOML file holds; ValueError where one is unknown or wrong."""
        return cls(**parse_settings(cls, values))


def parse_settings(cls: type[RunConfig], values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `cls` as a TOML file holds them, as arguments; ValueError if one is unknown."""
    known = settings(cls)
    if unknown := sorted(values.keys() - known.keys()):
        raise ValueError(f"unknown settings {', '.join(unknown)}")
    return {n: None if v == NONE and known[n].optional else v for n, v in values.items()}


def settings(cls: type[RunConfig]) -> dict[str, Setting]:
    """What is known of every setting of a class, by name."""
    about: dict[str, Setting] = {}
    for base in reversed(cls.__mro__):
        for f in fields(base) if issubclass(base, RunConfig) else ():
            about[f.name] = f.metadata.get("setting") or about[f.name]
    hints = typing.get_type_hints(cls)
    return {name: _typed(one, hints[name]) for name, one in about.items()}


def _typed(about: Setting, hint: Any) -> Setting:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    optional = type(None) in kinds
    (kind,) = (k for k in kinds if k is not type(None))
    return replace(about, kind=kind, optional=optional)
