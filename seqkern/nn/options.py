"""What the recurrent layers have beyond torch.nn's: noise in training, norms, heads, memory."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from seqkern.functional.columns import gather_columns

_PROBABILITIES = (
    "recurrent_dropout",
    "variational_dropout",
    "zoneout_h",
    "zoneout_c",
    "weight_drop",
)


@dataclass(frozen=True)
class Options:
    """Keyword arguments of the layers of seqkern.nn that torch.nn's do not have.

    Masks are drawn from torch's generator, at every call in training mode; dropout scales what it
    keeps, so that evaluation does nothing.

    Parameters
    ----------
    recurrent_dropout
        Probability of dropping a unit of h on its way into the product with W_hh, the same units
        at all steps of a sequence (Gal and Ghahramani 2016).
    variational_dropout
        Probability of dropping a feature of a layer's input, the first layer's too, the same
        features at all steps of a sequence (Gal and Ghahramani 2016). Of token ids, it drops
        tokens: the same ones wherever they stand in a sequence.
    zoneout_h, zoneout_c
        Probability that a unit of h (of c) keeps its value over a step; in evaluation the expected
        value takes its place (Krueger et al. 2017). zoneout_c is for the LSTM, and zoneout_h not
        for projections.
    weight_drop
        Probability of dropping an element of W_hh, once a call (DropConnect: Wan et al. 2013,
        Merity et al. 2018).
    layer_norm
        Normalise W_ih x and W_hh h over all gates, and the LSTM's c on its way to h (Ba et al.
        2016). The parameters are gains ``norm_ih_l0``, ``norm_hh_l0``, ``norm_c_l0`` and the bias
        ``norm_c_bias_l0``; the gates' biases are bias_ih and bias_hh.
    heads
        K: number of independent recurrences side by side, each of hidden_size / K units. weight_hh
        is then (K, G * hidden_size / K, hidden_size / K), and the rows of weight_ih and of the
        biases are ordered head by head. Norms are taken a head.
    recompute
        0: training keeps the gates of all steps. m > 0: it keeps h and c alone, and backward
        computes the gates again, m steps at a time. On the CPU an LSTM was measured to take 0.4
        times the memory and 1.3 times the time with m = 16 (docs/results/recurrent-cpu.md).

    Raises
    ------
    ValueError
        If a probability is not in [0, 1], heads not positive, or recompute negative.

    Examples
    --------
    >>> import seqkern
    >>> seqkern.nn.LSTM(3, 4, zoneout_h=0.1, heads=2).options.heads
    2
    """

    recurrent_dropout: float = 0.0
    variational_dropout: float = 0.0
    zoneout_h: float = 0.0
    zoneout_c: float = 0.0
    weight_drop: float = 0.0
    layer_norm: bool = False
    heads: int = 1
    recompute: int = 0

    def __post_init__(self) -> None:
        for name in _PROBABILITIES:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}, expected a probability in [0, 1]")
        if self.heads < 1:
            raise ValueError(f"heads is {self.heads}, expected at least 1")
        if self.recompute < 0:
            raise ValueError(f"recompute is {self.recompute}, expected a number of steps, or 0")

    def __str__(self) -> str:
        """Return what is not default, as arguments."""
        return ", ".join(
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        )


PLAIN = Options()
"""Nothing beyond torch.nn."""


def dropout_mask(probability: float, like: Tensor, *sizes: int) -> Tensor:
    """Draw factors that drop, or scale what they keep, of the dtype and device of ``like``."""
    return nn.functional.dropout(like.new_ones(sizes), probability)


def zoneout_mask(probability: float, training: bool, like: Tensor, *sizes: int) -> Tensor | None:
    """Return how much each unit keeps of its value over a step, (T, N, H)."""
    if not probability:
        return None
    if training:
        return torch.empty(sizes, dtype=like.dtype, device=like.device).bernoulli_(probability)
    return like.new_full((1, 1, 1), probability).expand(sizes)


def taken_steps(lengths: Tensor, steps: int) -> Tensor:
    """Return which of the steps (T, N) lie within the sequences' lengths (N,)."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths


def project(
    input: Tensor,
    weight_ih: Tensor,
    norm_ih: Tensor | None,
    token_mask: Tensor | None,
    heads: int,
    lengths: Tensor | None,
) -> Tensor:
    """Return W_ih x, normalised head by head if there is a norm.

    Parameters
    ----------
    input
        (T, N, D), or token ids (T, N). It may hold anything past the lengths.
    token_mask
        (N, V): factors of the tokens, or None.
    """
    if lengths is not None:
        taken = taken_steps(lengths, input.shape[0])
        # Not only steps of no use: the gradient of the weights would be 0 * NaN there.
        input = torch.where(taken.unsqueeze(2) if input.dim() == 3 else taken, input, 0)
    if input.dim() == 3:
        projected = nn.functional.linear(input, weight_ih)
    else:
        projected = gather_columns(weight_ih, input)
        if token_mask is not None:
            projected = projected * token_mask.gather(1, input.t()).t().unsqueeze(2)
    if norm_ih is None:
        return projected
    by_head = projected.unflatten(2, (heads, -1))
    normalised = nn.functional.layer_norm(by_head, by_head.shape[-1:])
    return normalised.flatten(2) * norm_ih
