"""How callers lay out sequences, and the way from there to (T, N, ...) and back."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


class TimeMajor:
    """(T, N, ...) and states (layers * directions, N, H), as the kernels take them."""

    batched = True
    lengths: Tensor | None = None

    def take(self, sequence: Tensor) -> Tensor:
        """Bring a sequence from the caller's layout to (T, N, ...)."""
        return sequence

    def give(self, sequence: Tensor) -> Tensor | PackedSequence:
        """Bring a sequence (T, N, ...) to the caller's layout."""
        return sequence

    def take_lengths(self, lengths: Tensor) -> Tensor:
        """Bring the caller's lengths to (N,)."""
        return lengths

    def take_state(self, state: Tensor) -> Tensor:
        """Bring the caller's state to (layers * directions, N, H)."""
        return state

    def give_state(self, state: Tensor) -> Tensor:
        """Bring a state (layers * directions, N, H) to the caller's layout."""
        return state


class BatchFirst(TimeMajor):
    """(N, T, ...)."""

    def take(self, sequence: Tensor) -> Tensor:
        """Swap the first two dimensions."""
        return sequence.transpose(0, 1)

    def give(self, sequence: Tensor) -> Tensor:
        """Swap the first two dimensions."""
        return sequence.transpose(0, 1)


class Unbatched(TimeMajor):
    """(T, ...) and states (layers * directions, H)."""

    batched = False

    def take(self, sequence: Tensor) -> Tensor:
        """Add the batch."""
        return sequence.unsqueeze(1)

    def give(self, sequence: Tensor) -> Tensor:
        """Take the batch away."""
        return sequence.squeeze(1)

    def take_lengths(self, lengths: Tensor) -> Tensor:
        """Add the batch."""
        return lengths.unsqueeze(0)

    def take_state(self, state: Tensor) -> Tensor:
        """Add the batch."""
        return state.unsqueeze(1)

    def give_state(self, state: Tensor) -> Tensor:
        """Take the batch away."""
        return state.squeeze(1)


class Packed(TimeMajor):
    """The rows of a PackedSequence (sum of lengths, ...), sorted by length inside.

    Both ways are one gather of rows. What they need is computed on the CPU, where batch_sizes are,
    so that no device waits.
    """

    def __init__(self, packed: PackedSequence) -> None:
        _, self._batch_sizes, self._order, self._inverse_order = packed
        device = packed.data.device
        column = torch.arange(int(self._batch_sizes[0]))
        taken = column < self._batch_sizes.unsqueeze(1)  # (T, N)
        first = (self._batch_sizes.cumsum(0) - self._batch_sizes).unsqueeze(1)  # rows of n = 0
        # Past the ends stand copies of the first step, N different rows: anything does there.
        self._rows = torch.where(taken, first + column, column).flatten().to(device)
        self._taken = taken.flatten().nonzero().squeeze(1).to(device)
        self._shape = taken.shape
        self.lengths = taken.sum(dim=0).to(device)  # (N,)

    def take(self, sequence: Tensor) -> Tensor:
        """Pad the rows."""
        return sequence.index_select(0, self._rows).unflatten(0, self._shape)

    def give(self, sequence: Tensor) -> PackedSequence:
        """Pack (T, N, ...) as the sequence given was."""
        rows = sequence.flatten(0, 1).index_select(0, self._taken)
        return PackedSequence(rows, self._batch_sizes, self._order, self._inverse_order)

    def take_state(self, state: Tensor) -> Tensor:
        """Sort the sequences."""
        return state if self._order is None else state.index_select(1, self._order)

    def give_state(self, state: Tensor) -> Tensor:
        """Bring the sequences back into the caller's order."""
        return state if self._inverse_order is None else state.index_select(1, self._inverse_order)


TIME_MAJOR, BATCH_FIRST, UNBATCHED = TimeMajor(), BatchFirst(), Unbatched()


def layout_of(input: Tensor | PackedSequence, input_size: int, batch_first: bool) -> TimeMajor:
    """Return how a layer's input is laid out; raise ValueError if it is none."""
    packed = isinstance(input, PackedSequence)
    data = input.data if isinstance(input, PackedSequence) else input
    rank = data.dim() + packed
    if not data.is_floating_point():
        if rank not in (1, 2):
            raise ValueError(
                f"input has dtype {data.dtype} and shape {tuple(data.shape)}, expected token ids "
                "of 1 dimension (unbatched) or 2, or floating-point features"
            )
        rank += 1
    elif rank not in (2, 3):
        raise ValueError(
            f"input has shape {tuple(data.shape)}, expected 2 dimensions (unbatched) or 3"
        )
    elif data.shape[-1] != input_size:
        raise ValueError(
            f"input has shape {tuple(data.shape)}, expected input_size = {input_size} features last"
        )
    if isinstance(input, PackedSequence):
        return Packed(input)
    if rank == 2:
        return UNBATCHED
    return BATCH_FIRST if batch_first else TIME_MAJOR
