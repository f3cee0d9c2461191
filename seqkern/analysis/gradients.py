"""How gradients grow or fade on their way back through a recurrent layer."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Norms = NDArray[np.float64]


def linear_gradient_norms(weight_hh: Tensor, steps: int = 20, batch: int = 2) -> Norms:
    """Norms of a gradient that goes back through a recurrence without an activation.

    It begins as ones, and every step multiplies it by W_hh: "Deep Learning from Scratch 2", section
    6.1.4. In the long run it explodes where the spectral radius of W_hh is above 1, and vanishes
    where that is below 1; the greatest singular value (`torch.linalg.svdvals`), by which the book
    tells, bounds the growth of every single step, so that below 1 it is enough to vanish.

    Parameters
    ----------
    weight_hh : Tensor
        Shape (H, H), as torch's layers have it: h' = W_hh h. It is the transpose of the book's.
    steps : int
    batch : int
        N.

    Returns
    -------
    ndarray
        float64, shape (steps,): Frobenius norm of dh (N, H) after 1 ... steps steps, over N.

    Raises
    ------
    ValueError
        If `weight_hh` is not square, or a size below 1.

    Examples
    --------
    >>> linear_gradient_norms(0.5 * torch.eye(4), steps=3, batch=1).tolist()
    [1.0, 0.5, 0.25]
    """
    if weight_hh.dim() != 2 or weight_hh.shape[0] != weight_hh.shape[1]:
        raise ValueError(f"weight_hh must be (H, H), got {tuple(weight_hh.shape)}")
    for name, value in (("steps", steps), ("batch", batch)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    weight = weight_hh.detach().double()
    gradient = weight.new_ones(batch, len(weight))
    norms = []
    for _ in range(steps):
        gradient = gradient @ weight
        norms.append(gradient.norm() / batch)
    return torch.stack(norms).cpu().numpy()


def gradient_norms(layer: torch.nn.RNNBase, input: Tensor) -> tuple[Norms, Norms]:
    """Norms of the gradient that reaches the state and the input of every step.

    It is that of the sum of the last step's outputs, through autograd.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Of seqkern.nn or torch.nn; time-major, in one direction.
    input : Tensor
        Shape (T, N, D).

    Returns
    -------
    of_state : ndarray
        float64, shape (T,): element t is the norm of the gradient of the state after step t, of an
        LSTM that of h and c together, over N.
    of_input : ndarray
        float64, shape (T,): element t is that of the input of step t.

    Raises
    ------
    ValueError
        If `layer` is bidirectional or batch_first, or `input` not (T, N, D) with T positive.

    Examples
    --------
    >>> of_state, of_input = gradient_norms(torch.nn.GRU(3, 5), torch.randn(20, 2, 3))
    >>> of_state.shape, bool(of_state[0] < of_state[-1])
    ((20,), True)
    """
    _check(layer, input)
    steps = [step.clone().requires_grad_() for step in input.detach().split(1)]
    states: list[tuple[Tensor, ...]] = []
    state = None
    with torch.enable_grad():
        for step in steps:
            _, state = layer(step, state)
            states.append((state,) if isinstance(state, Tensor) else state)
        top = states[-1][0][-1]  # h of the last layer: the last step's output
        flat = [tensor for state in states for tensor in state]
        # Zeros for the last c, which nothing comes after.
        found = torch.autograd.grad(top.sum(), [*flat, *steps], materialize_grads=True)
    tensors = len(states[0])
    of_state = [found[i : i + tensors] for i in range(0, len(flat), tensors)]
    of_input = [(gradient,) for gradient in found[len(flat) :]]
    return _norms(of_state, input.shape[1]), _norms(of_input, input.shape[1])


def weight_gradient_norms(
    layer: torch.nn.RNNBase, input: Tensor, max_norm: float | None = None
) -> Norms:
    """Norm of the gradient of all parameters, for sequences of 1 ... T steps.

    It is that of the sum of the last step's outputs, and, with `max_norm`, what
    torch.nn.utils.clip_grad_norm_ leaves of it (Pascanu et al. 2013).

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Of seqkern.nn or torch.nn; time-major, in one direction. It is left as it is.
    input : Tensor
        Shape (T, N, D).
    max_norm : float, optional

    Returns
    -------
    ndarray
        float64, shape (T,): element t is for the first t + 1 steps.

    Raises
    ------
    ValueError
        If `layer` is bidirectional or batch_first, or `input` not (T, N, D) with T positive.

    Examples
    --------
    >>> norms = weight_gradient_norms(torch.nn.RNN(3, 5), torch.randn(20, 2, 3), max_norm=0.5)
    >>> bool(norms.max() < 0.5001)
    True
    """
    _check(layer, input)
    layer = copy.deepcopy(layer)
    parameters = list(layer.parameters())
    gradients = []
    for steps in range(1, len(input) + 1):
        layer.zero_grad()
        with torch.enable_grad():
            output, _ = layer(input[:steps])
            output[-1].sum().backward()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        gradients.append(tuple(p.grad.clone() for p in parameters if p.grad is not None))
    return _norms(gradients, 1)


def _check(layer: torch.nn.RNNBase, input: Tensor) -> None:
    if layer.bidirectional or layer.batch_first:
        raise ValueError("layer must be time-major and in one direction")
    if input.dim() != 3 or len(input) == 0:
        raise ValueError(f"input must be (T, N, D), T positive, got {tuple(input.shape)}")


def _norms(gradients: Sequence[tuple[Tensor, ...]], batch: int) -> Norms:
    """The norm of all tensors of each element together, over the batch."""
    found = [torch.cat([part.double().flatten() for part in parts]) for parts in gradients]
    return torch.stack(found).norm(dim=1).cpu().numpy() / batch
