"""The inputs that the torch wheel carries for RNN, GRU, LSTM and cells, given to seqkern's."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.testing._internal.common_modules import ErrorModuleInput, ModuleInfo, module_db

import seqkern.nn

# Importing the above forbids the whole process to set flags of torch.backends.
torch.backends.__allow_nonbracketed_mutation_flag = True  # type: ignore[attr-defined]

KINDS = (
    torch.nn.RNN,
    torch.nn.GRU,
    torch.nn.LSTM,
    torch.nn.RNNCell,
    torch.nn.LSTMCell,
    torch.nn.GRUCell,
)
INFOS: dict[str, ModuleInfo] = {i.name: i for i in module_db if i.module_cls in KINDS}

DTYPES = (torch.float32, torch.float64)


def ours_of(info: ModuleInfo) -> Any:
    """Return seqkern's class of the same name."""
    return getattr(seqkern.nn, info.module_cls.__name__)


def leaves_of(value: Any) -> Iterator[Tensor]:
    """Return the tensors that carry numbers of an input or output."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, PackedSequence):
        yield value.data
    else:
        for part in value:
            yield from leaves_of(part)


def results(module: torch.nn.Module, arguments: tuple[Any, ...]) -> list[Tensor]:
    """Return outputs, and gradients of all inputs and parameters of a random sum of them."""
    outputs = list(leaves_of(module(*arguments)))
    torch.manual_seed(1)
    loss = torch.stack([(output * torch.randn_like(output)).sum() for output in outputs]).sum()
    wanted = [t for t in leaves_of(arguments) if t.requires_grad]
    return [*outputs, *torch.autograd.grad(loss, [*wanted, *module.parameters()])]


def test_every_kind_is_in_torchs_list() -> None:
    assert {info.module_cls for info in INFOS.values()} == set(KINDS)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("info", INFOS.values(), ids=INFOS)
def test_torchs_module_inputs_give_torchs_results_and_gradients(
    info: ModuleInfo, dtype: torch.dtype, training: bool
) -> None:
    recurrent = issubclass(info.module_cls, torch.nn.RNNBase)
    packed = {"with_packed_sequence": True} if recurrent else {}  # which LSTM's ignores
    samples = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=True, training=training, **packed
    )
    assert samples
    for sample in samples:
        made = sample.constructor_input
        theirs = info.module_cls(*made.args, **made.kwargs, dtype=dtype).train(training)
        ours = ours_of(info)(*made.args, **made.kwargs, dtype=dtype).train(training)
        ours.load_state_dict(theirs.state_dict(), strict=True)
        given = sample.forward_input
        assert not given.kwargs
        expected, actual = results(theirs, given.args), results(ours, given.args)
        assert len(actual) == len(expected)
        for found, wanted in zip(actual, expected, strict=True):
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("info", INFOS.values(), ids=INFOS)
def test_torchs_error_inputs_are_refused_by_constructor_or_call_as_by_torch(
    info: ModuleInfo,
) -> None:
    """House rule: a wrong shape is a ValueError, which torch has as RuntimeError in part."""
    samples: list[ErrorModuleInput] = info.module_error_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=True
    )
    assert samples
    for sample in samples:
        made, given = (
            sample.module_error_input.constructor_input,
            sample.module_error_input.forward_input,
        )
        if given is None:
            with pytest.raises(sample.error_type, match=sample.error_regex):
                ours_of(info)(*made.args, **made.kwargs)
        else:
            module = ours_of(info)(*made.args, **made.kwargs)
            with pytest.raises((ValueError, TypeError), match=r"expected|differ|dtype"):
                module(*given.args, **given.kwargs)
