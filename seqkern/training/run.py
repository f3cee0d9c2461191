"""The folder of a run.

config.toml        settings, with the names of task and preset
vocabularies.json  lists of tokens by name, absent where there are none (a model imported)
log.jsonl          one JSON object a line: what happened in training
last.safetensors   checkpoint to resume from
best.safetensors   weights of the epoch with the best score
plots/             pictures, by `seqkern show`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from seqkern.data import Vocabulary
from seqkern.data.checkpoint import load_checkpoint
from seqkern.tasks import task_class
from seqkern.training.checkpoint import load_model_tensors
from seqkern.training.config import RunConfig

if TYPE_CHECKING:
    from seqkern.training.task import Task

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG, VOCABULARIES, LOG = "config.toml", "vocabularies.json", "log.jsonl"


@dataclass(frozen=True)
class Run:
    """A run's folder, task, settings and vocabularies.

    Attributes
    ----------
    folder : Path
    task : type
        The class of its task.
    config : RunConfig
    vocabularies : mapping of str to Vocabulary
    preset : str
        The preset that it began as, empty where it began as none.
    """

    folder: Path
    task: type[Task[Any]]
    config: RunConfig
    vocabularies: Mapping[str, Vocabulary] = field(default_factory=dict)
    preset: str = ""

    def create(self) -> Run:
        """Make the folder, write settings and vocabularies; return the run.

        Raises
        ------
        FileExistsError
            If the folder holds a run.
        """
        self.check_new()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.vocabularies:
            lists = {name: v.tokens for name, v in self.vocabularies.items()}
            text = json.dumps(lists, ensure_ascii=False)
            (self.folder / VOCABULARIES).write_text(text + "\n", encoding="utf-8")
        self.save_config()
        return self

    def check_new(self) -> None:
        """FileExistsError if the folder holds a run."""
        if any((self.folder / name).exists() for name in (CONFIG, LOG)):  # or one of word2vec
            raise FileExistsError(
                f"folder {self.folder} already holds a run; resume it, or name another folder"
            )

    def save_config(self) -> None:
        """Write the settings."""
        import tomli_w

        names = {"task": self.task.family, "preset": self.preset}
        text = tomli_w.dumps({**names, **self.config.to_mapping()})
        (self.folder / CONFIG).write_text(text, encoding="utf-8")

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Read settings and vocabularies.

        Raises
        ------
        FileNotFoundError
            If the folder holds no run.
        ValueError
            If a file is corrupt.
        """
        folder = Path(folder)
        path = folder / CONFIG
        if not path.is_file():
            raise FileNotFoundError(f"folder {folder} holds no run (no {CONFIG} in it)")
        try:
            values = read_toml(path)
            task = task_class(values.pop("task", ""))
            preset = values.pop("preset", "")
            config = task.Config.from_mapping(values)
        except ValueError as error:
            raise ValueError(f"{path} is not a run's configuration: {error}") from error
        return cls(folder, task, config, _read_vocabularies(folder / VOCABULARIES), preset)

    def checkpoint(self, name: str) -> Path:
        """Path of the checkpoint "best" or "last"."""
        return self.folder / f"{name}.safetensors"

    def load_model(
        self, checkpoint: str | None = None, device: torch.device | str = "cpu"
    ) -> torch.nn.Module:
        """The trained model.

        Parameters
        ----------
        checkpoint : str, optional
            "best" or "last"; default best where there is one, else last.
        device : torch.device or str

        Raises
        ------
        FileNotFoundError, ValueError
            If the checkpoint is missing, corrupt, or of another model.
        """
        if checkpoint is None:
            checkpoint = "best" if self.checkpoint("best").exists() else "last"
        path = self.checkpoint(checkpoint)
        model = self.task.build_model(self.config)
        load_model_tensors(model, load_checkpoint(path)[0], path)
        return model.to(device)


def read_toml(path: str | Path) -> dict[str, Any]:
    """A TOML file's content; ValueError if it is none, FileNotFoundError if it is not there."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {path}") from None
    except ValueError as error:  # of UTF-8, too
        raise ValueError(f"{path} is not a TOML file: {error}") from error


def _read_vocabularies(path: Path) -> dict[str, Vocabulary]:
    if not path.exists():
        return {}
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(lists, dict) or not all(isinstance(v, list) for v in lists.values()):
            raise ValueError("expected an object of lists")
        if not all(isinstance(token, str) for tokens in lists.values() for token in tokens):
            raise ValueError("expected lists of strings")
        return {name: Vocabulary(tokens) for name, tokens in lists.items()}
    except ValueError as error:
        raise ValueError(f"{path} does not hold a run's vocabularies: {error}") from error
