"""The training loop: truncated back-propagation through time, schedule, checkpoints."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqkern.data import Batches, RandomBatches, SequentialBatches, evaluation_blocks
from seqkern.data.checkpoint import load_checkpoint, save_checkpoint
from seqkern.models import Rnnlm, State
from seqkern.training.checkpoint import (
    TRAINING,
    load_model_tensors,
    model_tensors,
)
from seqkern.training.config import RunConfig
from seqkern.training.evaluation import evaluate, perplexity
from seqkern.training.interrupt import catch_interrupt
from seqkern.training.run import Run
from seqkern.training.state import pack_optimizer, pack_rng, unpack_optimizer, unpack_rng

Event = dict[str, Any]
Listener = Callable[[Event], None]

REPORT_INTERVAL = 20  # iterations between two "step" events


class Trainer:
    """Trains a language model on a text.

    Parameters
    ----------
    model : Rnnlm
        On the device to train on.
    train : Tensor
        int64, shape (length,).
    config : RunConfig
    validation : Tensor, optional
        int64, shape (length,); needed where `config.monitor` is "valid".
    run : Run, optional
        Where checkpoints go; by default none are written.
    listeners : sequence of callables
        Each is called with every event, a dict: "step" and "epoch" report progress, "stop" the end
        of `fit`.

    Raises
    ------
    ValueError
        If a text is too short for one batch.

    Examples
    --------
    >>> from seqkern.models import Rnnlm
    >>> config = RunConfig(batch_size=2, steps=5, epochs=2, monitor="train", lr=1.0)
    >>> trainer = Trainer(Rnnlm(50), torch.arange(200) % 50, config)
    >>> trainer.fit(), trainer.epoch
    ('finished', 2)
    """

    def __init__(
        self,
        model: Rnnlm,
        train: Tensor,
        config: RunConfig,
        *,
        validation: Tensor | None = None,
        run: Run | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        if config.monitor == "valid":
            if validation is None:
                raise ValueError('validation must be given where config.monitor is "valid"')
            evaluation_blocks(
                validation, config.eval_batch_size, config.eval_steps
            )  # raises if too short
        self.model = model
        self.config = config
        self.validation = validation
        self.run = run
        self.listeners = listeners
        self.device = next(model.parameters()).device
        self.batches = make_batches(train.to(self.device), config)
        self.optimizer = make_optimizer(model, config)
        self.epoch = 0  # finished ones
        self.iteration = 0  # within the epoch
        self.state: State | None = None
        self.best: float | None = None
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._forward = torch.compile(model) if config.compile else model
        self._text_checksum = zlib.crc32(train.cpu().contiguous().numpy().data)

    @property
    def lr(self) -> float:
        """The learning rate in use."""
        return self.optimizer.param_groups[0]["lr"]

    def fit(self, max_seconds: float | None = None) -> str:
        """Train until `config.epochs` epochs are done.

        The first Ctrl-C ends training after the iteration under way, with a checkpoint; a second
        one interrupts at once.

        Parameters
        ----------
        max_seconds : float, optional
            End after this many seconds, too, with a checkpoint.

        Returns
        -------
        str
            "finished", "interrupted" or "time".

        Raises
        ------
        FloatingPointError
            If the loss is no longer finite; no checkpoint is written from then on.
        """
        start = self._saved_at = time.monotonic()
        self._start_window()
        self.model.train()
        if self.epoch == self.iteration == 0:
            self.save()
        reason = "finished"
        with catch_interrupt() as interrupted:
            while self.epoch < self.config.epochs:
                self.step()
                if self.iteration % REPORT_INTERVAL == 0:
                    self._report()
                if self.iteration == len(self.batches):
                    self._end_epoch()
                elif self._checkpoint_due():
                    self.save()
                if interrupted():
                    reason = "interrupted"
                elif max_seconds is not None and time.monotonic() - start >= max_seconds:
                    reason = "time"
                if reason != "finished":
                    self.save()
                    break
        self._emit("stop", reason=reason, epoch=self.epoch, iteration=self.iteration)
        return reason

    def step(self) -> None:
        """One iteration: the next batch, forward, backward, update."""
        inputs, targets = self.batches.next()
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.amp):
            loss, state = self._forward(inputs, self.state, targets)
        loss.backward()
        if self.config.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.state = _detach(state) if self.batches.carries_state else None
        self.loss_sum += loss.detach()
        self.iteration += 1

    def _end_epoch(self) -> None:
        train = self._train_perplexity()
        tokens_per_second = self._tokens_per_second()
        scores = {"train": train}
        if self.validation is not None:
            scores["valid"] = evaluate(
                self.model, self.validation, self.config.eval_batch_size, self.config.eval_steps
            )
        if not all(math.isfinite(value) for value in scores.values()):
            raise self._diverged()
        score, lr = scores[self.config.monitor], self.lr
        improved = self.best is None or score < self.best
        if improved:
            self.best = score
            if self.run is not None:
                save_checkpoint(
                    self.run.checkpoint("best"), model_tensors(self.model), {"perplexity": score}
                )
        else:
            for group in self.optimizer.param_groups:
                group["lr"] /= self.config.lr_decay
        self.epoch += 1
        self.iteration = 0
        self.loss_sum.zero_()
        self.save()
        self._emit(
            "epoch",
            epoch=self.epoch,
            **scores,
            lr=lr,
            improved=improved,
            tokens_per_second=tokens_per_second,
        )
        self._start_window()

    def _report(self) -> None:
        self._emit(
            "step",
            epoch=self.epoch + 1,
            iteration=self.iteration,
            iterations=len(self.batches),
            perplexity=self._train_perplexity(),
            tokens_per_second=self._tokens_per_second(),
        )

    def _emit(self, event: str, **values: Any) -> None:
        for listener in self.listeners:
            listener({"event": event, **values})

    def _train_perplexity(self) -> float:
        """Perplexity over the epoch's iterations so far, checked to be finite."""
        value = perplexity(self.loss_sum.item() / max(self.iteration, 1))
        if not math.isfinite(value):
            raise self._diverged()
        return value

    def _diverged(self) -> FloatingPointError:
        return FloatingPointError(
            f"training diverged in epoch {self.epoch + 1}, iteration {self.iteration}, "
            f"at lr {self.lr:g}: the loss is no longer finite; a lower lr or clip may help"
        )

    def _start_window(self) -> None:
        """Begin counting tokens per second; an epoch's validation is left out."""
        self._window = (time.monotonic(), self.iteration)

    def _tokens_per_second(self) -> float:
        start, iteration = self._window
        tokens = (self.iteration - iteration) * self.config.batch_size * self.config.steps
        return tokens / max(time.monotonic() - start, 1e-9)

    def _checkpoint_due(self) -> bool:
        every = self.config.checkpoint_iterations
        return (every is not None and self.iteration % every == 0) or (
            time.monotonic() - self._saved_at >= self.config.checkpoint_seconds
        )

    def save(self) -> None:
        """Write the checkpoint "last": all that `resume` needs to go on exactly."""
        if self.run is None:
            return
        if not all(p.isfinite().all() for p in self.model.parameters()):
            raise self._diverged()  # rather than replace a good checkpoint
        optimizer_tensors, optimizer = pack_optimizer(self.optimizer)
        rng_tensors, rng = pack_rng()
        state = () if self.state is None else self.state
        groups = {
            "optimizer": optimizer_tensors,
            "rng": rng_tensors,
            "state": {
                str(i): t for i, t in enumerate((state,) if isinstance(state, Tensor) else state)
            },
            "loss": {"sum": self.loss_sum},
        }
        tensors = model_tensors(self.model)
        for group, members in groups.items():
            tensors |= {f"{TRAINING}{group}/{name}": tensor for name, tensor in members.items()}
        meta = {
            "epoch": self.epoch,
            "iteration": self.iteration,
            "position": self.batches.position,
            "best": self.best,
            "text_crc32": self._text_checksum,
            "optimizer": optimizer,
            "rng": rng,
        }
        save_checkpoint(self.run.checkpoint("last"), tensors, meta)
        self._saved_at = time.monotonic()

    def resume(self) -> None:
        """Go back to the checkpoint "last" of the run.

        Raises
        ------
        FileNotFoundError, ValueError
            If the checkpoint is missing, corrupt, of another model, or of a training on another
            text.
        """
        if self.run is None:
            raise ValueError("resume needs a trainer with a run")
        path = self.run.checkpoint("last")
        tensors, meta = load_checkpoint(path)
        if meta["text_crc32"] != self._text_checksum:
            raise ValueError(f"the training text is not the one that {path} was trained on")
        load_model_tensors(self.model, tensors, path)

        def group(name: str) -> dict[str, Tensor]:
            prefix = f"{TRAINING}{name}/"
            return {
                key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)
            }

        unpack_optimizer(self.optimizer, group("optimizer"), meta["optimizer"])
        unpack_rng(group("rng"), meta["rng"])
        state = tuple(t.to(self.device) for _, t in sorted(group("state").items()))
        self.state = None if not state else state[0] if len(state) == 1 else (state[0], state[1])
        self.loss_sum.copy_(group("loss")["sum"])
        self.epoch, self.iteration, self.best = meta["epoch"], meta["iteration"], meta["best"]
        self.batches.position = meta["position"]
        self._emit("resume", epoch=self.epoch, iteration=self.iteration)


def make_batches(train: Tensor, config: RunConfig) -> Batches:
    """The batches that a configuration names."""
    if config.batching == "random":
        return RandomBatches(train, config.batch_size, config.steps, config.seed)
    return SequentialBatches(train, config.batch_size, config.steps)


def make_optimizer(model: torch.nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """The optimiser that a configuration names."""
    cls = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[config.optimizer]
    return cls(model.parameters(), lr=config.lr)


def _detach(state: State) -> State:
    return state.detach() if isinstance(state, Tensor) else (state[0].detach(), state[1].detach())
