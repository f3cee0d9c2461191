"""One weight as embedding and as last linear layer, with one gradient."""

from typing import Any

import torch
from torch import Tensor

from seqkern.functional._autograd import create_graph_requested


def tie(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weight twice: for an embedding with sparse gradients, and for the last linear layer.

    Autograd alone holds two gradients of a tied weight, and adds them. Where the embedding's is
    sparse, this adds its rows into the other one instead, in place.

    Parameters
    ----------
    weight
        (V, H), of any floating-point dtype.

    Returns
    -------
    tuple of Tensor
        For torch.nn.functional.embedding(ids, first, sparse=True) and for
        linear_cross_entropy(hidden, second, target): the values of ``weight``, not copied.

    Notes
    -----
    The gradient of ``weight`` is that of the second, changed in place: a hook that keeps the
    second's gradient sees it change. Press and Wolf, "Using the output embedding to improve
    language models", 2017.

    Examples
    --------
    >>> import torch, seqkern.functional as F
    >>> weight = torch.randn(10, 4, requires_grad=True)
    >>> first, second = F.tie(weight)
    >>> hidden = torch.nn.functional.embedding(torch.tensor([1, 2]), first, sparse=True)
    >>> F.linear_cross_entropy(hidden.tanh(), second, torch.tensor([2, 3])).backward()
    >>> weight.grad.shape, weight.grad.is_sparse
    (torch.Size([10, 4]), False)
    """
    return _Tie.apply(weight)


class _Tie(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        return weight.view_as(weight), weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor | None:
        of_embedding, of_linear = gradients
        if of_embedding is None or of_linear is None:
            return of_linear if of_embedding is None else of_embedding
        in_place = of_embedding.is_sparse and not create_graph_requested()
        if not in_place or torch.compiler.is_compiling():
            return of_linear + of_embedding
        return of_linear.add_(of_embedding)
