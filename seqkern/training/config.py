"""Everything that decides a run, and the presets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from seqkern.data import LEVELS
from seqkern.models import MODELS
from seqkern.models.rnnlm import BACKENDS


@dataclass(frozen=True)
class RunConfig:
    """Settings of a language-model run; `config.json` of its folder.

    Attributes
    ----------
    model : str
        Name in `seqkern.models.MODELS`.
    embed_size, hidden_size, num_layers, dropout, tied, backend
        The model's arguments.
    vocab_size : int
        Rows of the embedding; 0 until the vocabulary is known.
    data : str
        "pydoc", or the absolute path of a folder or file; empty for an imported model.
    level : str
        "word", "text" or "char".
    max_words, max_vocabulary : int or None
        Limits of the training text and the vocabulary.
    batch_size, steps : int
        N and T of a training batch.
    batching : str
        "sequential" (the recurrent state is carried) or "random" (it starts from zero).
    optimizer : str
        "sgd" or "adam".
    lr : float
        Learning rate at the start.
    lr_decay : float
        Divides the learning rate after an epoch whose perplexity is not the best so far; 1 keeps
        it.
    monitor : str
        Which perplexity that is: "valid" or "train".
    clip : float or None
        Limit of the gradients' global norm.
    epochs : int
    eval_batch_size, eval_steps : int
        Lanes and steps of an evaluation's blocks.
    seed : int
    amp : bool
        Autocast to bfloat16.
    compile : bool
        Run the model through torch.compile.
    checkpoint_seconds : float
        Most time between two checkpoints.
    checkpoint_iterations : int or None
        Most iterations between two checkpoints.

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
    """

    model: str = "rnnlm"
    embed_size: int = 100
    hidden_size: int = 100
    num_layers: int = 1
    dropout: float = 0.0
    tied: bool = False
    backend: str = "seqkern"
    vocab_size: int = 0
    data: str = ""
    level: str = "word"
    max_words: int | None = None
    max_vocabulary: int | None = None
    batch_size: int = 20
    steps: int = 35
    batching: str = "sequential"
    optimizer: str = "sgd"
    lr: float = 20.0
    lr_decay: float = 4.0
    monitor: str = "valid"
    clip: float | None = 0.25
    epochs: int = 4
    eval_batch_size: int = 10
    eval_steps: int = 35
    seed: int = 0
    amp: bool = False
    compile: bool = False
    checkpoint_seconds: float = 60.0
    checkpoint_iterations: int | None = None

    def __post_init__(self) -> None:
        choices = {
            "model": tuple(MODELS),
            "backend": BACKENDS,
            "level": LEVELS,
            "batching": ("sequential", "random"),
            "optimizer": ("sgd", "adam"),
            "monitor": ("valid", "train"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        for name in ("embed_size", "hidden_size", "num_layers", "batch_size", "steps", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "clip", "checkpoint_iterations"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        if not self.lr_decay >= 1:
            raise ValueError(f"lr_decay must be at least 1, got {self.lr_decay}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")

    def save(self, path: Path) -> None:
        """Write the settings as a JSON object."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> RunConfig:
        """Read what `save` wrote; ValueError if it is anything else."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError("expected a JSON object")
            unknown = values.keys() - {field.name for field in fields(cls)}
            if unknown:
                raise ValueError(f"unknown settings {', '.join(sorted(unknown))}")
            return cls(**values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a run's configuration: {error}") from error


_RNNLM = RunConfig()

PRESETS: dict[str, RunConfig] = {
    "simple-rnnlm": replace(
        _RNNLM,
        model="simple-rnnlm",
        max_words=1000,
        batch_size=10,
        steps=5,
        lr=0.1,
        lr_decay=1.0,
        monitor="train",
        clip=None,
        epochs=100,
    ),
    "rnnlm": _RNNLM,
    "better-rnnlm": replace(
        _RNNLM,
        model="better-rnnlm",
        embed_size=650,
        hidden_size=650,
        num_layers=2,
        dropout=0.5,
        tied=True,
        epochs=40,
    ),
}
"""Settings after "Deep Learning from Scratch 2", chapters 5 and 6."""
