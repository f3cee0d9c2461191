"""Recurrent layers with the interface of torch.nn's, on one native call a layer and direction."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seqkern.functional import lstm


class LSTM(nn.RNNBase):
    """Multi-layer LSTM: a drop-in replacement of torch.nn.LSTM.

    Parameters, their names and initial values, the state_dict and the outputs are torch.nn.LSTM's.

    Parameters
    ----------
    input_size, hidden_size
        D and H, numbers of features.
    num_layers
        Layers on top of each other; each but the first takes the output of the one below.
    bias
        Whether there are biases b_ih and b_hh.
    batch_first
        Whether input and output are (N, T, ...) instead of (T, N, ...).
    dropout
        Probability of dropping an output of each layer but the last, in training.
    bidirectional
        Whether a second pass runs from the last step to the first; its outputs are appended
        (factor 2 below).
    device, dtype
        Of the parameters: float32, float64 or bfloat16; on CUDA float16 too.

    Raises
    ------
    NotImplementedError
        For proj_size, and for PackedSequence inputs: not there yet.

    Notes
    -----
    Equations and sources: :func:`seqkern.functional.lstm`.

    Examples
    --------
    >>> import torch, seqkern
    >>> layer = seqkern.nn.LSTM(3, 5, num_layers=2)
    >>> output, (h_n, c_n) = layer(torch.randn(7, 2, 3))
    >>> output.shape, h_n.shape
    (torch.Size([7, 2, 5]), torch.Size([2, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if proj_size:
            raise NotImplementedError(f"seqkern.nn.LSTM: proj_size={proj_size} is not there yet")
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )

    def flatten_parameters(self) -> None:
        """Do nothing: kernels take the parameters as they are. For code written for torch."""

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run the layers over a sequence.

        Parameters
        ----------
        input
            (T, N, D), (N, T, D) with ``batch_first``, or (T, D) for one sequence without a batch.
            T and N may be 0.
        hx
            (h_0, c_0), each (layers * directions, N, H), or (layers * directions, H) with unbatched
            input. Zeros if None.

        Returns
        -------
        output
            (T, N, directions * H), (N, T, directions * H), or (T, directions * H).
        (h_n, c_n)
            The final states, of the shapes of (h_0, c_0).
        """
        if isinstance(input, PackedSequence):
            raise NotImplementedError("seqkern.nn.LSTM: PackedSequence input is not there yet")
        if input.dim() not in (2, 3):
            raise ValueError(
                f"input has shape {tuple(input.shape)}, expected 2 dimensions (unbatched) or 3"
            )
        if input.shape[-1] != self.input_size:
            raise ValueError(
                f"input has shape {tuple(input.shape)}, "
                f"expected input_size = {self.input_size} features last"
            )
        batched = input.dim() == 3
        if not batched:
            input = input.unsqueeze(1)
        elif self.batch_first:
            input = input.transpose(0, 1)

        h_0, c_0 = self._initial_state(input, hx, batched)
        h_n: list[Tensor] = []
        c_n: list[Tensor] = []
        output = input
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                output = nn.functional.dropout(output, self.dropout)
            directions = []
            for reverse in (False, True) if self.bidirectional else (False,):
                index = len(h_n)
                one, h, c = lstm(
                    output, h_0[index], c_0[index], *self._weights(layer, reverse), reverse=reverse
                )
                directions.append(one)
                h_n.append(h)
                c_n.append(c)
            output = torch.cat(directions, dim=-1) if self.bidirectional else directions[0]

        state = torch.stack(h_n), torch.stack(c_n)
        if not batched:
            return output.squeeze(1), (state[0].squeeze(1), state[1].squeeze(1))
        return output.transpose(0, 1) if self.batch_first else output, state

    def _weights(self, layer: int, reverse: bool) -> list[Tensor]:
        names = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if self.bias else [])
        suffix = "_reverse" if reverse else ""
        return [getattr(self, f"{name}_l{layer}{suffix}") for name in names]

    def _initial_state(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None, batched: bool
    ) -> tuple[Tensor, Tensor]:
        count = self.num_layers * (2 if self.bidirectional else 1)
        if hx is None:
            zeros = torch.zeros(
                count, input.shape[1], self.hidden_size, dtype=input.dtype, device=input.device
            )
            return zeros, zeros
        if isinstance(hx, Tensor) or len(hx) != 2:
            given = "a tensor" if isinstance(hx, Tensor) else f"{len(hx)} tensors"
            raise ValueError(f"hx is {given}, expected the two tensors (h_0, c_0)")
        expected = (
            (count, input.shape[1], self.hidden_size) if batched else (count, self.hidden_size)
        )
        for name, state in zip(("h_0", "c_0"), hx, strict=True):
            if tuple(state.shape) != expected:
                raise ValueError(
                    f"{name} has shape {tuple(state.shape)}, expected {expected} = "
                    f"(layers * directions, {'batch, ' if batched else ''}hidden_size)"
                )
        h_0, c_0 = hx
        return (h_0, c_0) if batched else (h_0.unsqueeze(1), c_0.unsqueeze(1))
