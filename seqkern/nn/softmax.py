"""Loss modules of the softmax family."""

from typing import Any

import torch
from torch import Tensor, nn

from seqkern.functional import cross_entropy, linear_cross_entropy, time_softmax_loss
from seqkern.functional.softmax import Reduction


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


class _Loss(nn.Module):
    """The options that both losses share."""

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None,
        ignore_index: int,
        reduction: Reduction,
        label_smoothing: float,
        z_loss: float,
        softcap: float | None,
        temperature: float,
        nan_if_empty: bool,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing
        self.z_loss = z_loss
        self.softcap = softcap
        self.temperature = temperature
        self.nan_if_empty = nan_if_empty

    def _options(self) -> dict[str, Any]:
        names = (
            *("ignore_index", "reduction", "label_smoothing", "z_loss", "softcap"),
            *("temperature", "nan_if_empty"),
        )
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items())


class CrossEntropyLoss(_Loss):
    """torch.nn.CrossEntropyLoss with loss and gradient in one pass over the logits.

    Parameters
    ----------
    weight
        (V,): a factor of each class; a buffer.
    ignore_index, reduction, label_smoothing
        As torch's.
    z_loss, softcap, temperature, nan_if_empty
        As of :func:`seqkern.functional.cross_entropy`.

    Notes
    -----
    Classes are the last dimension of the logits, whatever the number of dimensions: torch's are the
    second. Shapes, dtypes, errors and the equation: :func:`seqkern.functional.cross_entropy`.

    Examples
    --------
    >>> import torch, seqkern
    >>> loss = seqkern.nn.CrossEntropyLoss(label_smoothing=0.1)
    >>> loss(torch.zeros(3, 10), torch.tensor([1, 2, -100]))
    tensor(2.3026)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        *,
        z_loss: float = 0.0,
        softcap: float | None = None,
        temperature: float = 1.0,
        nan_if_empty: bool = False,
    ) -> None:
        super().__init__(
            *(weight, ignore_index, reduction, label_smoothing),
            *(z_loss, softcap, temperature, nan_if_empty),
        )

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits (..., V) and target, (...) or (..., V), to a scalar, or (...)."""
        return cross_entropy(input, target, self.weight, **self._options())


class LinearCrossEntropyLoss(_Loss):
    """torch.nn.LinearCrossEntropyLoss: a linear layer and its cross-entropy, never all logits.

    Parameters
    ----------
    in_features, num_classes
        H and V.
    bias
        Whether the linear layer has one.
    weight
        (V,): a factor of each class; a buffer.
    ignore_index, reduction, label_smoothing
        As torch's.
    z_loss, softcap, temperature, nan_if_empty, workspace
        As of :func:`seqkern.functional.linear_cross_entropy`.

    Attributes
    ----------
    linear : torch.nn.Linear
        Logits are its output. Its weight may be tied to an embedding's.

    Notes
    -----
    Shapes, dtypes, errors, memory and the equation:
    :func:`seqkern.functional.linear_cross_entropy`.

    Examples
    --------
    >>> import torch, seqkern
    >>> embedding = torch.nn.Embedding(10, 4)
    >>> loss = seqkern.nn.LinearCrossEntropyLoss(4, 10)
    >>> loss.linear.weight = embedding.weight
    >>> loss(torch.zeros(3, 2, 4), torch.tensor([[1, 2], [3, -100], [0, 0]])).item()
    2.3025851249694824
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        reduction: Reduction = "mean",
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        softcap: float | None = None,
        temperature: float = 1.0,
        nan_if_empty: bool = False,
        workspace: int | None = None,
    ) -> None:
        super().__init__(
            *(weight, ignore_index, reduction, label_smoothing),
            *(z_loss, softcap, temperature, nan_if_empty),
        )
        self.linear = nn.Linear(in_features, num_classes, bias, device=device, dtype=dtype)
        self.workspace = workspace

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Hidden states (..., H) and target, (...) or (..., V), to a scalar, or (...)."""
        return linear_cross_entropy(
            *(input, self.linear.weight, target, self.linear.bias),
            class_weight=self.weight,
            workspace=self.workspace,
            **self._options(),
        )
