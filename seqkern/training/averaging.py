"""Averaged stochastic gradient descent that begins to average when validation stalls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_swa_multi_avg_fn


class NTASGD(torch.optim.SGD):
    """Non-monotonically triggered averaged SGD (NT-ASGD).

    Plain SGD until a validation score is worse than the best of all but the last `window` before
    it; from then on SGD that keeps the mean of every parameter over the steps, for evaluation.
    Training goes on with the parameters themselves, at a constant learning rate.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter, or of dicts
        As of torch.optim.SGD.
    lr : float
    window : int
        n: the latest scores that a new one is not compared with.
    options
        Further arguments of torch.optim.SGD.

    Raises
    ------
    ValueError
        If `window` is below 1, or torch.optim.SGD refuses an argument.

    Notes
    -----
    Algorithm 1 of Merity, Keskar and Socher, "Regularizing and Optimizing LSTM Language Models",
    2017. The mean is over all steps since the trigger, the parameters at it included. `state_dict`
    has everything: the window, the scores and the number of steps averaged in the first group, the
    means beside SGD's own state of each parameter, of its dtype.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.zeros(1))
    >>> optimizer = NTASGD([weight], lr=1.0, window=1)
    >>> [optimizer.observe(score) for score in (3.0, 2.0, 2.5, 2.6)]
    [False, False, False, True]
    >>> for _ in range(3):
    ...     weight.grad = torch.ones(1)
    ...     optimizer.step()
    >>> with optimizer.averaged():
    ...     weight.item()
    -1.5
    >>> weight.item()
    -3.0
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 30.0,
        window: int = 5,
        **options: Any,
    ) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        super().__init__(params, lr, **options)
        self.param_groups[0].update(window=window, scores=[], steps_averaged=0)

    @property
    def averaging(self) -> bool:
        """Whether averaging has begun."""
        return self.param_groups[0]["steps_averaged"] > 0

    @torch.no_grad()
    def observe(self, score: float) -> bool:
        """Take a validation score, lower being better; return whether averaging has begun.

        Call it once an epoch. The parameters at hand are the first of the mean.
        """
        if not self.averaging:
            first = self.param_groups[0]
            earlier = first["scores"][: -first["window"]]
            if earlier and score > min(earlier):
                for parameter in self._parameters():
                    self.state[parameter]["average"] = parameter.detach().clone()
                first["steps_averaged"] = 1
            first["scores"] = [*first["scores"], score]  # a new list: state_dict hands out this one
        return self.averaging

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """SGD's step, and the new parameters' share in their means."""
        loss = super().step(closure)
        if self.averaging:
            first = self.param_groups[0]
            update = get_swa_multi_avg_fn()
            update(self._averages(), self._parameters(), first["steps_averaged"])
            first["steps_averaged"] += 1
        return loss

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the parameters be their means inside a with block; no change before averaging.

        The parameters, not the optimiser, are changed for the time: a checkpoint of the training
        is to be written outside.
        """
        if not self.averaging:
            yield
            return
        parameters = self._parameters()
        own = [parameter.detach().clone() for parameter in parameters]
        _assign(parameters, self._averages())
        try:
            yield
        finally:
            _assign(parameters, own)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _averages(self) -> list[Tensor]:
        return [self.state[parameter]["average"] for parameter in self._parameters()]


@torch.no_grad()
def _assign(parameters: list[Tensor], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
