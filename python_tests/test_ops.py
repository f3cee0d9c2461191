"""The ops called directly: which kernels they run, their dtypes, and those that are no layer's."""

import pytest
import torch
from torch import Tensor

import backend
from backend import on_cpu, on_cuda
from helpers import KERNEL_DTYPES, SLOW, error, generator, loss_reference, normal
from negative_sampling_cases import SAMPLING_DTYPES
from negative_sampling_cases import op_arguments as sampling_arguments
from recurrent_cases import OUTPUTS, PLAIN, draw
from recurrent_ops import ROUNDINGS, forward
from seqkern.functional._recurrent_arguments import ARGUMENTS
from softmax_cases import MEAN, SOFTMAX_DTYPES, op_arguments

ops = torch.ops.seqkern

PLAIN_LOSS = (None, -1, 0.0, 0.0, 0.0, 1.0, 0, 0)  # class weight and options, when there are none

AGREEMENT = ("test_schema", "test_faketensor")
SOFTMAX_OPS = [op for op in backend.OPS if "softmax" in op or op == "scale_"]
SAMPLING_OPS = [op for op in backend.OPS if op.startswith("sample_")]
NEGATIVE_SAMPLING_OPS = list(sampling_arguments(torch.float32))
WORD_VECTORS_OPS = ["train_word_vectors_"]  # test_word_vectors_op.py
CASES_APART = (*SOFTMAX_OPS, *SAMPLING_OPS, *NEGATIVE_SAMPLING_OPS, *WORD_VECTORS_OPS)
OTHER_OPS = [op for op in backend.OPS if op not in CASES_APART]


@pytest.mark.parametrize("op", backend.OPS)
def test_the_ops_run_the_kernels_of_the_backend(op: str) -> None:
    registered = torch._C._dispatch_dump(f"seqkern::{op}")
    (kernel,) = (line for line in registered.splitlines() if line.startswith("CPU: "))
    place = {"cpu": "csrc/ops/", "cuda-on-host": "csrc/ops/cuda_", "cuda": "torch/library.py"}
    assert place[backend.NAME] in kernel
    assert ("cuda_" in kernel) == (backend.NAME == "cuda-on-host")


# --- dtypes --------------------------------------------------------------------------------------


@on_cpu
def test_float16_is_refused_but_by_the_losses() -> None:
    expect_refusal(torch.float16)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64], ids=str)
def test_unsupported_dtype_is_refused(dtype: torch.dtype) -> None:
    expect_refusal(dtype)
    target = torch.zeros(2, dtype=torch.int64)
    matrix, numbers, d_numbers = (torch.zeros(n, k) for n, k in ((2, 3), (8, 2), (4, 2)))
    matrix = matrix.to(dtype)
    with pytest.raises(TypeError, match="^logits has dtype"):
        ops.softmax_loss(matrix, target, *PLAIN_LOSS, MEAN, False, True)
    with pytest.raises(TypeError, match="^logits has dtype"):
        ops.softmax_loss_backward(matrix, target, *PLAIN_LOSS, numbers, d_numbers)
    layer, all_of_them = (matrix, matrix, None, target, *PLAIN_LOSS), [True, True, False]
    with pytest.raises(TypeError, match="^hidden has dtype"):
        ops.linear_softmax_loss(*layer, MEAN, False, all_of_them, 1 << 20)
    with pytest.raises(TypeError, match="^hidden has dtype"):
        ops.linear_softmax_loss_backward(*layer, numbers, d_numbers, all_of_them, 1 << 20)
    words = (matrix, matrix, target, target[:, None])
    with pytest.raises(TypeError, match="^hidden has dtype"):
        ops.embedding_dot(*words[:3])
    with pytest.raises(TypeError, match="^hidden has dtype"):
        ops.negative_sampling_loss(*words[:2], None, -1, *words[2:], 1, [True, True], False)
    with pytest.raises(TypeError, match="^embedding has dtype"):
        ops.negative_sampling_loss(
            *(*words[:2], target[:, None], -1, *words[2:]), 1, [True, True], True
        )


def expect_refusal(dtype: torch.dtype) -> None:
    target = torch.zeros(2, dtype=torch.int64)
    matrix = torch.zeros(2, 3).to(dtype)
    with pytest.raises(TypeError, match="^weight has dtype"):
        ops.gather_columns(matrix, target)
    with pytest.raises(TypeError, match="^d has dtype"):
        ops.scatter_columns(matrix, target, 3)
    arguments = draw("lstm", (2, 2, 2, 2), torch.float32, 0).arguments
    tensors = [t if t is None else t.to(dtype) for t in map(arguments.get, ARGUMENTS)]
    with pytest.raises(TypeError, match="^input has dtype"):
        ops.recurrent_forward("lstm", *tensors, False, False, True, True)


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
@pytest.mark.parametrize("case", SOFTMAX_OPS)
def test_softmax_ops_agree_with_their_fake_implementations(case: str, dtype: torch.dtype) -> None:
    torch.library.opcheck(getattr(ops, case), op_arguments(dtype)[case], test_utils=AGREEMENT)


@pytest.mark.parametrize("dtype", SAMPLING_DTYPES, ids=str)
@pytest.mark.parametrize("case", NEGATIVE_SAMPLING_OPS)
def test_negative_sampling_ops_agree_with_their_fake_implementations(
    case: str, dtype: torch.dtype
) -> None:
    torch.library.opcheck(getattr(ops, case), sampling_arguments(dtype)[case], test_utils=AGREEMENT)


@pytest.mark.parametrize("dtype", KERNEL_DTYPES, ids=str)
@pytest.mark.parametrize("case", OTHER_OPS)
def test_ops_agree_with_their_fake_implementations(case: str, dtype: torch.dtype) -> None:
    problem = draw("lstm", (3, 2, 5, 4), dtype, 1, [*PLAIN, "norm_hh", "zoneout_c"])
    output, _, _, cells, kept = forward(problem)
    tensors = [problem.arguments.get(name) for name in ARGUMENTS]
    gradients = [problem.gradients.get(name) for name in OUTPUTS]
    matrix, ids = normal((5, 7), dtype, generator(1)), torch.tensor([1, 6, 0, 6, 2])
    cases: dict[str, tuple[object, ...]] = {
        "recurrent_forward": (problem.cell, *tensors, False, False, True, True),
        "recurrent_backward": (
            *(problem.cell, *gradients, *tensors, output, cells, kept),
            *(False, False, 0, True, True),
        ),
        "gather_columns": (matrix, ids),
        "scatter_columns": (matrix, ids, 9),
    }
    torch.library.opcheck(getattr(ops, case), cases[case], test_utils=AGREEMENT)


# --- columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", KERNEL_DTYPES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 700, 5000])
@pytest.mark.parametrize("rows", [5, 130])
def test_columns_are_gathered_and_scattered(rows: int, count: int, dtype: torch.dtype) -> None:
    weight, ids = torch.randn(rows, 77).to(dtype), torch.randint(77, (count,))
    assert torch.equal(ops.gather_columns(weight, ids), weight[:, ids].t())
    assert torch.equal(ops.gather_columns(weight.t().contiguous().t(), ids), weight[:, ids].t())
    d = torch.randn(count, rows).to(dtype)
    expected = torch.zeros(rows, 77, dtype=torch.float64).index_add(1, ids, d.double().t())
    found = ops.scatter_columns(d, ids, 77)
    assert found.dtype == dtype
    assert found.is_contiguous()
    assert error(found, expected.numpy()) <= 4 * torch.finfo(dtype).eps


@on_cuda
def test_columns_out_of_range_are_nan_and_get_nothing() -> None:
    ids = torch.tensor([2, 3, -1, 1 << 62, -(1 << 62)])
    gathered = ops.gather_columns(torch.eye(3), ids)
    assert torch.equal(gathered[0], torch.tensor([0.0, 0.0, 1.0]))
    assert gathered[1:].isnan().all()
    expected = torch.tensor([[0.0, 0.0, 1.0]] * 2)
    assert torch.equal(ops.scatter_columns(torch.ones(5, 2), ids, 3), expected)


# --- softmax loss --------------------------------------------------------------------------------


def loss_and_gradient(logits: Tensor, target: Tensor, ignore_index: int = -1) -> list[Tensor]:
    """Call the loss op."""
    options = (None, ignore_index, *PLAIN_LOSS[2:])
    loss, *_, gradient = ops.softmax_loss(logits, target, *options, MEAN, False, True)
    return [loss, gradient]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("classes", [1, 7, 33, 1000, 10007, 50257])
@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
def test_loss_and_its_gradient_match_the_reference(
    dtype: torch.dtype, classes: int, offset: int
) -> None:
    """With an offset, logits begin within a vector of the kernel's, and their gradient does not."""
    random = generator(classes)
    shape = (1, 3) if SLOW and classes >= 1000 else (5, 7)
    count = shape[0] * shape[1] * classes
    buffer = (normal((count + offset,), torch.float64, random) * 3).to(dtype)
    target = torch.randint(classes, shape, generator=random)
    target[torch.rand(shape, generator=random) < 0.2] = -1
    logits = buffer[offset:].view(*shape, classes)
    expected, d_logits = loss_reference(logits, target, -1)
    loss, gradient = loss_and_gradient(logits, target)

    leaf = logits.detach().requires_grad_()
    peer = torch.nn.functional.cross_entropy(leaf.flatten(0, 1), target.flatten(), ignore_index=-1)
    (of_peer,) = torch.autograd.grad(peer, leaf)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    eps = torch.finfo(loss.dtype).eps
    assert abs(loss.item() - expected) <= max(2 * abs(peer.item() - expected), 4 * eps * expected)
    floor = ROUNDINGS[dtype] / 2 * torch.finfo(dtype).eps
    assert error(gradient, d_logits) <= max(2 * error(of_peer, d_logits), floor)


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
@pytest.mark.parametrize("rows", [0, 5])
def test_loss_is_zero_where_no_row_counts(rows: int, dtype: torch.dtype) -> None:
    target = torch.full((rows,), 3)
    loss, gradient = loss_and_gradient(torch.randn(rows, 9, dtype=dtype), target, ignore_index=3)
    assert loss.item() == 0
    assert not gradient.any()


@on_cuda
@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
def test_target_out_of_range_makes_its_row_and_the_loss_nan(dtype: torch.dtype) -> None:
    logits = torch.randn(6, 33, dtype=dtype)
    bad = torch.tensor([4, 33, -2, 1 << 62, -(1 << 62), -1])
    good = torch.tensor([4, 0, 0, 0, 0, -1])
    loss, gradient = loss_and_gradient(logits, bad)
    _, expected = loss_and_gradient(logits, good)
    assert loss.isnan()
    assert gradient[1:5].isnan().all()
    assert torch.equal(gradient[[0, 5]], expected[[0, 5]])


@pytest.mark.parametrize("dtype", SOFTMAX_DTYPES, ids=str)
@pytest.mark.parametrize("by", [1.0, -2.5])
@pytest.mark.parametrize("offset", [0, 1])
def test_a_gradient_is_scaled_in_place(offset: int, by: float, dtype: torch.dtype) -> None:
    values = normal((1003 + offset,), dtype, generator(1))[offset:].view(17, 59)
    expected = values * by
    ops.scale_(values, torch.tensor(by))
    assert torch.equal(values, expected)


def test_a_gradient_is_scaled_by_a_scalar_alone() -> None:
    with pytest.raises(ValueError, match=r"^by has shape \[2\], expected \[\] = a scalar"):
        ops.scale_(torch.ones(2), torch.ones(2))
    with pytest.raises(ValueError, match=r"^tensor has strides \[1, 2\], expected contiguous ones"):
        ops.scale_(torch.ones(3, 2).t(), torch.ones(()))
    with pytest.raises(TypeError, match="^by has dtype Long, expected a floating-point dtype"):
        ops.scale_(torch.ones(3), torch.tensor(1))
