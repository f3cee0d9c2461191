"""Training of word vectors through autograd: the loop of "Deep Learning from Scratch 2"."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from seqkern.data.checkpoint import load_checkpoint, save_checkpoint
from seqkern.data.contexts import ContextBatches, seeded_generator
from seqkern.models import CBOW, SkipGram
from seqkern.training.checkpoint import TRAINING, load_model_tensors, model_tensors
from seqkern.training.interrupt import catch_interrupt
from seqkern.training.state import pack_optimizer, unpack_optimizer
from seqkern.training.trainer import Listener

REPORT_INTERVAL = 200  # iterations between two "step" events


class WordTrainer:
    """Trains CBOW or skip-gram with negative sampling by Adam.

    Parameters
    ----------
    model : CBOW or SkipGram
        With a sampler, on the device to train on.
    tokens : Tensor
        int64, shape (length,).
    window, batch_size, epochs : int
    lr, eps : float
        Adam's; the book's eps is 1e-7, and matters to rare words, whose second moments fade between
        their batches.
    seed : int
        The order of words and the negatives depend on it.
    checkpoint : Path, optional
        Where the model and all that resuming needs are saved, every `checkpoint_seconds` and when
        training ends.
    listeners : sequence of callables
        Each is called with every event, a dict: "step" and "epoch" report progress, "resume" and
        "stop" its beginning and end.

    Raises
    ------
    ValueError
        If a setting is out of its range, or the text too short for one batch.

    Notes
    -----
    Adam moves all rows in every step, also those of words that are not in the batch: their means of
    gradients fade. A sparse optimiser leaves them alone, and is another method.

    Examples
    --------
    >>> from seqkern.nn import UnigramSampler
    >>> model = CBOW(20, 8, UnigramSampler([10] * 20))
    >>> trainer = WordTrainer(model, torch.arange(200) % 20, window=2, batch_size=10, epochs=2)
    >>> trainer.fit(), trainer.epoch
    ('finished', 2)
    """

    def __init__(
        self,
        model: CBOW | SkipGram,
        tokens: Tensor,
        *,
        window: int = 5,
        batch_size: int = 100,
        epochs: int = 10,
        lr: float = 0.001,
        eps: float = 1e-7,
        seed: int = 0,
        checkpoint: Path | None = None,
        checkpoint_seconds: float = 60.0,
        listeners: Sequence[Listener] = (),
    ) -> None:
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        if not lr > 0:
            raise ValueError(f"lr must be above 0, got {lr}")
        if not eps >= 0:
            raise ValueError(f"eps must be at least 0, got {eps}")
        self.model, self.epochs, self.seed = model, epochs, seed
        self.checkpoint, self.checkpoint_seconds = checkpoint, checkpoint_seconds
        self.listeners = listeners
        self.device = model.embedding.weight.device
        self.batches = ContextBatches(tokens.to(self.device), window, batch_size, seed)
        # One pass over the parameters, where torch's default takes nine.
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, eps=eps, fused=True)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._text_checksum = zlib.crc32(tokens.cpu().contiguous().numpy().data)
        self._window = (0.0, 0)

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.batches.epoch

    def fit(self) -> str:
        """Train until all epochs are done.

        The first Ctrl-C ends training after the iteration under way, with a checkpoint; a second
        one interrupts at once.

        Returns
        -------
        str
            "finished" or "interrupted".

        Raises
        ------
        FloatingPointError
            If the loss is no longer finite; no checkpoint is written from then on.
        """
        saved = time.monotonic()
        self._start_window()
        reason = "finished"
        with catch_interrupt() as interrupted:
            while self.epoch < self.epochs:
                epoch = self.epoch
                self.step()
                if self.epoch > epoch:
                    self._report("epoch", len(self.batches))
                    self.loss_sum.zero_()
                    self._start_window()
                elif self.batches.iteration % REPORT_INTERVAL == 0:
                    self._report("step", self.batches.iteration)
                if interrupted():
                    reason = "interrupted"
                    break
                if time.monotonic() - saved >= self.checkpoint_seconds:
                    self.save()
                    saved = time.monotonic()
        self.save()
        self._emit("stop", reason=reason, epoch=self.epoch, iteration=self.batches.iteration)
        return reason

    def step(self) -> None:
        """One iteration: the next batch, forward, backward, update.

        Its negatives depend on the seed and the iteration alone.
        """
        numbers = (self.seed, self.batches.epoch, self.batches.iteration)
        contexts, target = self.batches.next()
        self.optimizer.zero_grad()
        generator = seeded_generator(*numbers, device=self.device)
        loss = self.model(contexts, target, generator=generator)
        loss.backward()
        self.optimizer.step()
        self.loss_sum += loss.detach()

    def save(self) -> None:
        """Write the checkpoint: the model, and all that `resume` needs to go on exactly."""
        if self.checkpoint is None:
            return
        if not all(p.isfinite().all() for p in self.model.parameters()):
            raise self._diverged()  # rather than replace a good checkpoint
        moments, optimizer = pack_optimizer(self.optimizer)
        tensors = model_tensors(self.model)
        tensors |= {f"{TRAINING}{name}": tensor for name, tensor in moments.items()}
        tensors[f"{TRAINING}loss"] = self.loss_sum
        meta = {
            "epoch": self.epoch,
            "iteration": self.batches.iteration,
            "text_crc32": self._text_checksum,
            "optimizer": optimizer,
        }
        save_checkpoint(self.checkpoint, tensors, meta)

    def resume(self) -> None:
        """Go back to the checkpoint.

        Raises
        ------
        FileNotFoundError, ValueError
            If the checkpoint is missing, corrupt, of another model, or of a training on another
            text.
        """
        if self.checkpoint is None:
            raise ValueError("resume needs a trainer with a checkpoint")
        tensors, meta = load_checkpoint(self.checkpoint)
        if meta["text_crc32"] != self._text_checksum:
            raise ValueError(f"the text is not the one that {self.checkpoint} was trained on")
        load_model_tensors(self.model, tensors, self.checkpoint)
        moments = {
            name.removeprefix(TRAINING): tensor
            for name, tensor in tensors.items()
            if name.startswith(TRAINING)
        }
        self.loss_sum.copy_(moments.pop("loss"))
        unpack_optimizer(self.optimizer, moments, meta["optimizer"])
        self.batches.epoch, self.batches.iteration = meta["epoch"], meta["iteration"]
        self._emit("resume", epoch=self.epoch, iteration=self.batches.iteration)

    def _report(self, event: str, iteration: int) -> None:
        """Tell how it goes, after so many iterations of an epoch."""
        loss = self.loss_sum.item() / iteration
        if not math.isfinite(loss):
            raise self._diverged()
        started, first = self._window
        words = (iteration - first) * self.batches.batch_size
        epoch = self.epoch if event == "epoch" else self.epoch + 1
        epoch_words = len(self.batches) * self.batches.batch_size
        self._emit(
            event,
            epoch=epoch,
            words=(epoch - 1) * epoch_words + iteration * self.batches.batch_size,
            total_words=self.epochs * epoch_words,
            words_per_second=words / max(time.monotonic() - started, 1e-9),
            loss=loss,
            learning_rate=self.optimizer.param_groups[0]["lr"],
        )

    def _emit(self, event: str, **values: object) -> None:
        for listener in self.listeners:
            listener({"event": event, **values})

    def _diverged(self) -> FloatingPointError:
        lr = self.optimizer.param_groups[0]["lr"]
        return FloatingPointError(
            f"training diverged in epoch {self.epoch + 1} at lr {lr:g}: the loss is no longer "
            "finite; a lower lr may help"
        )

    def _start_window(self) -> None:
        """Begin counting words per second."""
        self._window = (time.monotonic(), self.batches.iteration)
