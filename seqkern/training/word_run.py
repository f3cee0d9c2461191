"""The folder of a run of train word2vec, and files of vectors by their names.

config.json           settings
log.jsonl             one JSON object a line: what happened in training
last.safetensors      checkpoint to resume from
vectors.safetensors   the word vectors (KeyedVectors.load)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqkern.training.run import LOG
from seqkern.vectors import KeyedVectors

TASK = "word2vec"
CONFIG, VECTORS = "config.json", "vectors.safetensors"


@dataclass(frozen=True)
class WordRun:
    """A run's folder and settings, which JSON can hold.

    Attributes
    ----------
    folder : Path
    settings : dict
        `task` is "word2vec".
    """

    folder: Path
    settings: dict[str, Any]

    @property
    def log(self) -> Path:
        """Path of the log."""
        return self.folder / LOG

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint."""
        return self.folder / "last.safetensors"

    @property
    def vectors(self) -> Path:
        """Path of the word vectors."""
        return self.folder / VECTORS

    def check_new(self) -> None:
        """FileExistsError if the folder holds a run."""
        if any((self.folder / name).exists() for name in (CONFIG, LOG)):  # or one of a task
            raise FileExistsError(
                f"folder {self.folder} already holds a run; resume it, or name another folder"
            )

    def create(self) -> None:
        """Make the folder of a new run, and write the settings."""
        self.check_new()
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.settings, indent=1, ensure_ascii=False)
        (self.folder / CONFIG).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def open(cls, folder: str | Path) -> WordRun:
        """Read the settings.

        Raises
        ------
        FileNotFoundError
            If the folder holds no run.
        ValueError
            If the settings are corrupt, or those of something else.
        """
        folder = Path(folder)
        path = folder / CONFIG
        if not path.is_file():
            raise FileNotFoundError(f"folder {folder} holds no run (no {CONFIG} in it)")
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not a run's configuration: {error}") from error
        if not isinstance(settings, dict) or settings.get("task") != TASK:
            raise ValueError(f"{path} is not the configuration of a run of train {TASK}")
        return cls(folder, settings)


def load_vectors(path: str | Path, *, no_header: bool = False) -> KeyedVectors:
    """Read vectors from a run's folder, or from a file, whose format its name tells.

    `.safetensors` is what `KeyedVectors.save` writes, `.bin` word2vec's binary format, and anything
    else its text; the latter two may end in `.gz`.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or no vectors in it.
    ValueError
        If the file is malformed.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / VECTORS).is_file():
            raise FileNotFoundError(f"folder {path} holds no run of word vectors (no {VECTORS})")
        return KeyedVectors.load(path / VECTORS)
    if not path.exists():
        raise FileNotFoundError(f"no such run or file of vectors: {path}")
    if path.suffix == ".safetensors":
        return KeyedVectors.load(path)
    return KeyedVectors.load_word2vec_format(
        path, binary=is_binary(path) and not no_header, no_header=no_header
    )


def is_binary(path: Path) -> bool:
    """Whether vectors of this name are in word2vec's binary format."""
    return path.name.removesuffix(".gz").endswith(".bin")
