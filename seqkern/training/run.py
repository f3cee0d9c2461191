"""The folder of a run.

config.json        settings
vocab.json         the vocabulary, absent for a model imported without one
log.jsonl          one JSON object a line: what happened in training
last.safetensors   checkpoint to resume from
best.safetensors   weights of the epoch with the best perplexity
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from seqkern.data import Vocabulary
from seqkern.data.checkpoint import load_checkpoint
from seqkern.models import MODELS, Rnnlm
from seqkern.training.checkpoint import load_model_tensors
from seqkern.training.config import RunConfig

CONFIG, VOCABULARY, LOG = "config.json", "vocab.json", "log.jsonl"


@dataclass(frozen=True)
class Run:
    """A run's folder, settings and vocabulary."""

    folder: Path
    config: RunConfig
    vocabulary: Vocabulary | None

    def create(self) -> Run:
        """Make the folder, write settings and vocabulary; return the run.

        Raises
        ------
        FileExistsError
            If the folder holds a run.
        """
        if (self.folder / CONFIG).exists():
            raise FileExistsError(
                f"folder {self.folder} already holds a run; resume it, or name another folder"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.vocabulary is not None:
            self.vocabulary.save(self.folder / VOCABULARY)
        self.config.save(self.folder / CONFIG)
        return self

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Read settings and vocabulary.

        Raises
        ------
        FileNotFoundError
            If the folder holds no run.
        ValueError
            If a file is corrupt.
        """
        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            raise FileNotFoundError(f"folder {folder} holds no run (no {CONFIG} in it)")
        vocabulary = folder / VOCABULARY
        return cls(
            folder,
            RunConfig.load(folder / CONFIG),
            Vocabulary.load(vocabulary) if vocabulary.exists() else None,
        )

    def checkpoint(self, name: str) -> Path:
        """Path of the checkpoint "best" or "last"."""
        return self.folder / f"{name}.safetensors"

    def load_model(
        self, checkpoint: str | None = None, device: torch.device | str = "cpu"
    ) -> Rnnlm:
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
        model = build_model(self.config)
        load_model_tensors(model, load_checkpoint(path)[0], path)
        return model.to(device)


def build_model(config: RunConfig) -> Rnnlm:
    """The model of a configuration, freshly initialised from torch's global generator."""
    return MODELS[config.model](
        config.vocab_size,
        config.embed_size,
        config.hidden_size,
        config.num_layers,
        config.dropout,
        config.tied,
        config.backend,
    )
