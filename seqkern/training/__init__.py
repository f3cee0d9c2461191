"""The training of every task: loop, settings, runs, checkpoints."""

from seqkern.data.checkpoint import load_checkpoint, save_checkpoint
from seqkern.training.config import RunConfig, setting
from seqkern.training.progress import ConsoleProgress, JsonLog, TensorBoard
from seqkern.training.run import Run
from seqkern.training.task import Batches, ExampleBatches, Task, evaluating, part_of_batch
from seqkern.training.trainer import Trainer

__all__ = [
    "Batches",
    "ConsoleProgress",
    "ExampleBatches",
    "JsonLog",
    "Run",
    "RunConfig",
    "Task",
    "TensorBoard",
    "Trainer",
    "evaluating",
    "load_checkpoint",
    "part_of_batch",
    "save_checkpoint",
    "setting",
]
