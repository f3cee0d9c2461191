"""Loss modules of the softmax family."""

from torch import Tensor, nn

from seqkern.functional import time_softmax_loss


class TimeSoftmaxLoss(nn.Module):
    """Mean cross-entropy over the positions of a sequence whose target is not ``ignore_index``.

    Parameters
    ----------
    ignore_index
        The target of positions that do not count.

    Notes
    -----
    Shapes, dtypes, errors and the equation: :func:`seqkern.functional.time_softmax_loss`.

    Examples
    --------
    >>> import torch, seqkern
    >>> loss = seqkern.nn.TimeSoftmaxLoss()
    >>> loss(torch.zeros(3, 2, 10), torch.tensor([[1, 2], [3, -1], [-1, -1]]))
    tensor(2.3026)
    """

    def __init__(self, ignore_index: int = -1) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits (..., V) and target (...) to a scalar."""
        return time_softmax_loss(logits, target, self.ignore_index)
