"""Adam as its efficient form and the book have it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch


class EpsilonHatAdam(torch.optim.Adam):
    """Adam whose eps is added before the second moment's bias is corrected.

    At step t, with the moments m and v as torch.optim.Adam has them, a parameter becomes::

        p - lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps)

    By torch.optim.Adam's formula that is an eps of ``eps / sqrt(1 - beta2^t)``, 32 times as much in
    the first step as in the end.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter, or of dicts
        As of torch.optim.Adam.
    lr, betas, eps
        As of torch.optim.Adam, but for the place of eps.
    options
        Further arguments of torch.optim.Adam.

    Raises
    ------
    ValueError
        If torch.optim.Adam refuses an argument.

    Notes
    -----
    The form at the end of section 2 of Kingma and Ba, "Adam: A Method for Stochastic Optimization",
    2015, whose eps is called epsilon hat there; also that of "Deep Learning from Scratch 2".

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.zeros(1))
    >>> weight.grad = torch.full((1,), 1e-6)
    >>> EpsilonHatAdam([weight], lr=1.0, eps=1e-7).step()
    >>> round(weight.item(), 4)  # -1 / (1 + 1e-7 / sqrt(0.001 * 1e-12)); without eps: -1
    -0.2403
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, **options)
        for group in self.param_groups:
            group.update(epsilon_hat=group["eps"], steps=0)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all parameters that have a gradient."""
        for group in self.param_groups:
            group["steps"] += 1
            corrected = 1 - group["betas"][1] ** group["steps"]
            group["eps"] = group["epsilon_hat"] / math.sqrt(corrected)
        return super().step(closure)
