"""RNNCell, LSTMCell and GRUCell: one step of the layers, drop-in replacements of torch.nn's."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from seqkern.functional.recurrent import recurrent
from seqkern.nn.layers import check_nonlinearity
from seqkern.nn.recurrent import State, parameter_values, state_tuple


class RecurrentCell(nn.RNNCellBase):
    """Base of the cells, not derived from torch.nn's."""

    gates: ClassVar[int]
    has_cells: ClassVar[bool] = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, self.gates, device=device, dtype=dtype)

    @property
    def cell(self) -> str:
        """Name of the cell in :func:`seqkern.functional.recurrent`."""
        raise NotImplementedError

    def forward(self, input: Tensor, hx: State | None = None) -> State:
        """Take one step.

        Parameters
        ----------
        input
            (N, D), or (D) without a batch.
        hx
            The hidden state (N, H), or (H) without a batch; for an LSTM the pair of hidden and cell
            state. Zeros if None.

        Returns
        -------
        Tensor, or tuple of Tensor for an LSTM
            The state after the step, of the shapes of ``hx``.

        Raises
        ------
        TypeError
            If dtypes are unsupported or differ.
        ValueError
            If shapes or devices do not fit together.
        """
        raise NotImplementedError

    def _step(self, input: Tensor, hx: State | None) -> tuple[Tensor, ...]:
        """Return the states after one step, (N, H) or (H)."""
        batched = input.dim() == 2
        if not (batched or input.dim() == 1) or input.shape[-1] != self.input_size:
            raise ValueError(
                f"input has shape {tuple(input.shape)}, "
                f"expected (batch, {self.input_size}) or ({self.input_size},)"
            )
        states = () if hx is None else state_tuple(hx, self.has_cells)
        expected = (input.shape[0], self.hidden_size) if batched else (self.hidden_size,)
        for name, state in zip(("h_0", "c_0"), states, strict=False):
            if state.shape != expected:
                raise ValueError(
                    f"{name} has shape {tuple(state.shape)}, expected {expected} = "
                    f"({'batch, ' if batched else ''}hidden_size)"
                )
        if not batched:
            input = input.unsqueeze(0)
            states = tuple(state.unsqueeze(0) for state in states)
        h_0, c_0 = (*states, None, None)[:2]
        _, h_1, c_1, _ = recurrent(
            self.cell,
            input.unsqueeze(0),
            h_0,
            c_0,
            *parameter_values(self, ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
        )
        found = (h_1,) if c_1 is None else (h_1, c_1)
        return found if batched else tuple(state.squeeze(0) for state in found)


class RNNCell(RecurrentCell):
    """One step of Elman's RNN: a drop-in replacement of torch.nn.RNNCell.

    Parameters
    ----------
    input_size, hidden_size
        D and H, numbers of features.
    bias
        Whether there are biases b_ih and b_hh.
    nonlinearity
        "tanh" or "relu".
    device, dtype
        Of the parameters: float32, float64 or bfloat16; on CUDA float16 too.

    Raises
    ------
    ValueError
        If there is no such nonlinearity.

    Examples
    --------
    >>> import torch, seqkern
    >>> seqkern.nn.RNNCell(3, 5)(torch.randn(2, 3)).shape
    torch.Size([2, 5])
    """

    gates = 1
    nonlinearity: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    @property
    def cell(self) -> str:
        """Name of the cell in :func:`seqkern.functional.recurrent`."""
        return f"rnn_{self.nonlinearity}"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._step(input, hx)[0]


class GRUCell(RecurrentCell):
    """One step of a GRU: a drop-in replacement of torch.nn.GRUCell.

    Parameters
    ----------
    input_size, hidden_size
        D and H, numbers of features.
    bias
        Whether there are biases b_ih and b_hh.
    device, dtype
        Of the parameters: float32, float64 or bfloat16; on CUDA float16 too.

    Examples
    --------
    >>> import torch, seqkern
    >>> seqkern.nn.GRUCell(3, 5)(torch.randn(2, 3)).shape
    torch.Size([2, 5])
    """

    gates = 3
    cell = "gru"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._step(input, hx)[0]


class LSTMCell(RecurrentCell):
    """One step of an LSTM: a drop-in replacement of torch.nn.LSTMCell.

    Parameters
    ----------
    input_size, hidden_size
        D and H, numbers of features.
    bias
        Whether there are biases b_ih and b_hh.
    device, dtype
        Of the parameters: float32, float64 or bfloat16; on CUDA float16 too.

    Examples
    --------
    >>> import torch, seqkern
    >>> h, c = seqkern.nn.LSTMCell(3, 5)(torch.randn(2, 3))
    >>> h.shape, c.shape
    (torch.Size([2, 5]), torch.Size([2, 5]))
    """

    gates = 4
    has_cells = True
    cell = "lstm"

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        h_1, c_1 = self._step(input, hx)
        return h_1, c_1
