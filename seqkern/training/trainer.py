"""The training loop of every task: update, schedule, checkpoints, processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from seqkern.data.checkpoint import load_checkpoint, save_checkpoint
from seqkern.training.adam import EpsilonHatAdam
from seqkern.training.averaging import NTASGD
from seqkern.training.checkpoint import (
    TRAINING,
    load_model_tensors,
    model_tensors,
)
from seqkern.training.config import RunConfig
from seqkern.training.interrupt import catch_interrupt
from seqkern.training.processes import any_of, average_gradients, gather, mean, rank_and_world
from seqkern.training.run import Run
from seqkern.training.state import (
    State,
    detach,
    pack_optimizer,
    pack_rng,
    pack_state,
    unpack_optimizer,
    unpack_rng,
    unpack_state,
)
from seqkern.training.task import Task

Event = dict[str, Any]
Listener = Callable[[Event], None]

REPORT_INTERVAL = 20  # iterations between two "step" events


class Trainer:
    """Trains a model on a task.

    Where torch.distributed is initialised, each process takes its part of every batch, gradients
    are averaged, and process 0 writes the checkpoints. The loss is then the mean of the parts'
    means, as in torch's DistributedDataParallel.

    Parameters
    ----------
    model : Module
        On the device to train on; with the same parameters in all processes.
    task : Task
    run : Run, optional
        Where checkpoints go; by default none are written.
    listeners : sequence of callables
        Each is called with every event, a dict: "step" and "epoch" report progress, "resume" and
        "stop" the beginning and end of `fit`.

    Raises
    ------
    ValueError
        If there is too little data for one batch, or a batch cannot be shared by the processes.

    Examples
    --------
    >>> from seqkern.data import Corpus, Vocabulary
    >>> from seqkern.tasks.language import LanguageConfig, LanguageTask
    >>> text = torch.arange(200) % 50
    >>> corpus = Corpus(Vocabulary([str(i) for i in range(50)]), "word", text, text, text)
    >>> config = LanguageConfig(batch_size=2, steps=5, epochs=2, monitor="train", lr=1.0)
    >>> task = LanguageTask(config, corpus)
    >>> trainer = Trainer(task.build_model(task.config), task)
    >>> trainer.fit(), trainer.epoch
    ('finished', 2)
    """

    def __init__(
        self,
        model: torch.nn.Module,
        task: Task[Any],
        run: Run | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        config = task.config
        if config.monitor == "train" and task.score not in task.training_scores(0.0):
            raise ValueError(f'monitor must be "valid": training gives no {task.score}')
        self.model, self.task, self.run, self.listeners = model, task, run, listeners
        self.config: RunConfig = config
        self.device = next(model.parameters()).device
        self.rank, self.world = rank_and_world()
        self.batches = task.batches(self.device, self.rank, self.world)
        self.optimizer = make_optimizer(model, config)
        self.epoch = 0  # finished ones
        self.iteration = 0  # within the epoch
        self.state: State | None = None
        self.best: float | None = None
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._items = 0.0  # that the task counts, since the speed was last taken anew
        self._forward = torch.compile(model) if config.compile else model

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
                elapsed = time.monotonic() - start
                flags = (
                    interrupted(),
                    max_seconds is not None and elapsed >= max_seconds,
                    self._checkpoint_due(),
                )
                stop, time_is_up, save = any_of(flags, self.device)
                if self.iteration == len(self.batches):
                    self._end_epoch()
                elif save or stop or time_is_up:
                    self.save()
                if stop or time_is_up:
                    reason = "interrupted" if stop else "time"
                    break
        self._emit("stop", reason=reason, epoch=self.epoch, iteration=self.iteration)
        return reason

    def step(self) -> None:
        """One iteration: the next batch, forward, backward, update."""
        batch = self.batches.next()
        if self.config.schedule == "linear":
            done = self.epoch + self.iteration / len(self.batches)
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.lr * (1 - done / self.config.epochs)
        self.optimizer.zero_grad()
        bfloat16 = self.config.dtype == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            loss, state = self.task.loss(self._forward, batch, self.state)
        loss.backward()
        average_gradients(self.model)
        if self.config.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        share = self.task.share(batch)
        self._update(share)
        self._items += share * self.task.items
        carries = self.batches.carries_state
        self.state = detach(state) if carries and state is not None else None
        self.loss_sum += loss.detach()
        self.iteration += 1

    def _update(self, share: float) -> None:
        """The optimiser's step at the learning rate times a batch's share of a whole one."""
        groups = self.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] *= share
        self.optimizer.step()
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate

    def _averaged(self) -> AbstractContextManager[None]:
        """The parameters to judge and keep: their means, where the optimiser takes them."""
        return self.optimizer.averaged() if isinstance(self.optimizer, NTASGD) else nullcontext()

    def _end_epoch(self) -> None:
        scores = {"train": self.task.training_scores(self._mean_loss())}
        speed, seconds = self._speed(), time.monotonic() - self._epoch_start
        with self._averaged():
            if self.config.monitor == "valid":
                scores["valid"] = gather(self.task.evaluate(self.model, "valid"))[0]
            if not all(math.isfinite(v) for figures in scores.values() for v in figures.values()):
                raise self._diverged()
            score, lr = scores[self.config.monitor][self.task.score], self.lr
            improved = self.best is None or (
                score > self.best if self.task.higher_is_better else score < self.best
            )
            if improved or score == self.best:  # of equal epochs, the later one
                self.best = score
                if self.run is not None and self.rank == 0:
                    meta = {self.task.score: score}
                    save_checkpoint(self.run.checkpoint("best"), model_tensors(self.model), meta)
        if isinstance(self.optimizer, NTASGD):
            self.optimizer.observe(-score if self.task.higher_is_better else score)
        if not improved:
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
            seconds=seconds,
            **speed,
        )
        self._start_window()

    def _report(self) -> None:
        loss = self._mean_loss()
        self._emit(
            "step",
            epoch=self.epoch + 1,
            iteration=self.iteration,
            iterations=len(self.batches),
            loss=loss,
            train=self.task.training_scores(loss),
            **self._speed(),
        )

    def _emit(self, event: str, **values: Any) -> None:
        for listener in self.listeners:
            listener({"event": event, **values})

    def _mean_loss(self) -> float:
        """Mean loss of the epoch's iterations so far, checked to be finite."""
        value = mean(self.loss_sum).item() / max(self.iteration, 1)
        if not all(map(math.isfinite, (value, *self.task.training_scores(value).values()))):
            raise self._diverged()
        return value

    def _diverged(self) -> FloatingPointError:
        return FloatingPointError(
            f"training diverged in epoch {self.epoch + 1}, iteration {self.iteration}, "
            f"at lr {self.lr:g}: the loss is no longer finite; a lower lr or clip may help"
        )

    def _start_window(self) -> None:
        """Begin to take the time of training; an epoch's evaluation is left out."""
        self._epoch_start, self._items = time.monotonic(), 0.0

    def _speed(self) -> dict[str, float]:
        """What the task counts, a second."""
        seconds = max(time.monotonic() - self._epoch_start, 1e-9)
        return {f"{self.task.unit}_per_second": self._items / seconds}

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
        rng_tensors, rng = pack_rng()
        own = pack_state(self.state, "state") | {"loss": self.loss_sum}
        own |= {f"rng/{name}": tensor for name, tensor in rng_tensors.items()}
        parts = gather(({name: tensor.cpu() for name, tensor in own.items()}, rng))
        self._saved_at = time.monotonic()
        if self.rank != 0:
            return
        moments, optimizer = pack_optimizer(self.optimizer)
        tensors = model_tensors(self.model)
        tensors |= {f"{TRAINING}optimizer/{name}": tensor for name, tensor in moments.items()}
        for rank, (part, _) in enumerate(parts):
            tensors |= {f"{TRAINING}{rank}/{name}": tensor for name, tensor in part.items()}
        meta = {
            "epoch": self.epoch,
            "iteration": self.iteration,
            "position": self.batches.position,
            "best": self.best,
            "data_crc32": self.task.checksum,
            "optimizer": optimizer,
            "rng": [rng for _, rng in parts],
        }
        save_checkpoint(self.run.checkpoint("last"), tensors, meta)

    def resume(self) -> None:
        """Go back to the checkpoint "last" of the run.

        Raises
        ------
        FileNotFoundError, ValueError
            If the checkpoint is missing, corrupt, of another model, of a training on other data, or
            by another number of processes.
        """
        if self.run is None:
            raise ValueError("resume needs a trainer with a run")
        path = self.run.checkpoint("last")
        tensors, meta = load_checkpoint(path)
        if meta["data_crc32"] != self.task.checksum:
            raise ValueError(f"the training data is not that of which {path} is")
        if len(meta["rng"]) != self.world:
            raise ValueError(
                f"{path} is of a training by {len(meta['rng'])} processes, got {self.world}: "
                "each has its part of every batch"
            )
        load_model_tensors(self.model, tensors, path)

        def group(name: str) -> dict[str, Tensor]:
            prefix = f"{TRAINING}{name}/"
            return {
                key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)
            }

        unpack_optimizer(self.optimizer, group("optimizer"), meta["optimizer"])
        own = group(str(self.rank))
        unpack_rng(group(f"{self.rank}/rng"), meta["rng"][self.rank])
        self.state = unpack_state(own, "state", self.device)
        self.loss_sum.copy_(own["loss"])
        self.epoch, self.iteration, self.best = meta["epoch"], meta["iteration"], meta["best"]
        self.batches.position = meta["position"]
        self._emit("resume", epoch=self.epoch, iteration=self.iteration)


def make_optimizer(model: torch.nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """The optimiser that the settings name."""
    parameters, lr, decay = model.parameters(), config.lr, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=lr, weight_decay=decay)
    if config.optimizer == "nt-asgd":
        return NTASGD(parameters, lr, config.averaging_window, weight_decay=decay)
    adam = EpsilonHatAdam if config.optimizer == "adam-hat" else torch.optim.Adam
    # Fused: one pass over the parameters, where torch's default takes nine.
    return adam(parameters, lr=lr, eps=config.eps, weight_decay=decay, fused=True)
