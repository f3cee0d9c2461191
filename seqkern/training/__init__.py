"""Training, checkpoints, evaluation and generation of language models."""

from seqkern.data.checkpoint import load_checkpoint, save_checkpoint
from seqkern.training.book import load_book_arrays, rnnlm_from_book
from seqkern.training.config import PRESETS, RunConfig
from seqkern.training.evaluation import evaluate, perplexity
from seqkern.training.generation import generate
from seqkern.training.progress import ConsoleProgress, JsonLog
from seqkern.training.run import Run, build_model
from seqkern.training.trainer import Trainer

__all__ = [
    "PRESETS",
    "ConsoleProgress",
    "JsonLog",
    "Run",
    "RunConfig",
    "Trainer",
    "build_model",
    "evaluate",
    "generate",
    "load_book_arrays",
    "load_checkpoint",
    "perplexity",
    "rnnlm_from_book",
    "save_checkpoint",
]
