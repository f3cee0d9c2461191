"""The ops on a CUDA device, against the float64 reference, with torch there as measure of error.

All but one of these tests need a device; where there is none they are skipped.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import seqkern
import seqkern.functional as F
from helpers import (
    LSTM_ARGUMENTS,
    LstmProblem,
    differentiate,
    error,
    generator,
    loss_reference,
    lstm_problem,
    lstm_reference,
    lstm_torch,
    normal,
)

OPS = ("lstm_forward", "lstm_backward", "time_softmax_loss")
ops = torch.ops.seqkern

needs_build = pytest.mark.skipif(
    not seqkern.build_info()["cuda"], reason="seqkern was built without CUDA"
)
needs_device = pytest.mark.skipif(
    not (torch.cuda.is_available() and seqkern.build_info()["cuda"]),
    reason="no CUDA device, or seqkern was built without CUDA",
)
DEVICE = torch.device("cuda")

# Roundings of the result that are granted whatever torch achieves.
FLOOR = {torch.float32: 8, torch.float64: 32, torch.bfloat16: 1, torch.float16: 1}
DTYPES = tuple(FLOOR)
PRECISIONS = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}


@pytest.fixture(params=[*PRECISIONS, "tf32"])
def precision(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """Each dtype in turn, and float32 with TF32 products allowed."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = request.param == "tf32"
    yield PRECISIONS.get(request.param, torch.float32)
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


def on_device(problem: LstmProblem) -> LstmProblem:
    """Return the problem with its tensors on the CUDA device."""
    return replace(
        problem,
        arguments=tuple(t if t is None else t.to(DEVICE) for t in problem.arguments),
        gradients=tuple(t if t is None else t.to(DEVICE) for t in problem.gradients),
    )


def run(problem: LstmProblem) -> dict[str, Tensor]:
    """Outputs and all gradients of seqkern on the device, named as the reference names them."""
    arguments = {
        name: None if t is None else t.detach().requires_grad_()
        for name, t in zip(LSTM_ARGUMENTS, on_device(problem).arguments, strict=True)
    }
    outputs = F.lstm(**arguments, reverse=problem.reverse)
    leaves = {name: t for name, t in arguments.items() if t is not None}
    return differentiate(outputs, on_device(problem), list(leaves), list(leaves.values()))


def forward(problem: LstmProblem, keep: bool = True) -> tuple[Tensor, ...]:
    """Call the forward op on the device."""
    return ops.lstm_forward(*on_device(problem).arguments, problem.reverse, keep)


def backward(problem: LstmProblem, kept: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Call the backward op on the device."""
    output, _, _, gates, cells = kept
    moved = on_device(problem)
    saved = (*moved.arguments[:5], output, gates, cells)
    return ops.lstm_backward(*moved.gradients, *saved, problem.reverse)


def loss_and_gradient(logits: Tensor, target: Tensor, ignore_index: int = -1) -> list[Tensor]:
    """Call the loss op on the device."""
    return list(ops.time_softmax_loss(logits.to(DEVICE), target.to(DEVICE), ignore_index, True))


def assert_same_bits(actual: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b)


@needs_build
@pytest.mark.parametrize("op", OPS)
def test_a_cuda_build_registers_every_op_for_cuda(op: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"seqkern::{op}", "CUDA")


# --- numbers -------------------------------------------------------------------------------------


@needs_device
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "sizes", [(35, 20, 100, 100), (7, 3, 17, 130), (3, 1, 1, 40), (12, 64, 256, 512)]
)
def test_outputs_and_gradients_match_the_reference(
    sizes: tuple[int, int, int, int], reverse: bool, precision: torch.dtype
) -> None:
    problem = lstm_problem(*sizes, precision, sum(sizes), reverse=reverse)
    expected = lstm_reference(problem)
    with DEVICE:
        peer = lstm_torch(on_device(problem))
    for name, tensor in run(problem).items():
        assert tensor.dtype == precision
        of_torch = error(peer[name].cpu(), expected[name])
        bound = max(2 * of_torch, FLOOR[precision] * torch.finfo(precision).eps)
        of_seqkern = error(tensor.cpu(), expected[name])
        assert of_seqkern <= bound, f"{name}: error {of_seqkern:.2e}, of torch {of_torch:.2e}"


@needs_device
@pytest.mark.parametrize("used", [(True, False, False), (False, True, False), (False, False, True)])
@pytest.mark.parametrize("biases", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("sizes", [(5, 3, 4, 6), (2, 1, 1, 1)])
def test_absent_biases_and_gradients_are_zeros(
    sizes: tuple[int, int, int, int], biases: tuple[bool, bool], used: tuple[bool, bool, bool]
) -> None:
    problem = lstm_problem(*sizes, torch.float64, 0, biases=biases, used=used)
    expected = lstm_reference(problem)
    for name, tensor in run(problem).items():
        assert error(tensor.cpu(), expected[name]) <= 1e-13, name


@needs_device
@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (4, 0), (0, 0)])
def test_no_steps_or_no_sequences_give_initial_states_and_zero_gradients(
    steps: int, batch: int, precision: torch.dtype
) -> None:
    problem = lstm_problem(steps, batch, 4, 6, precision, 0)
    expected = lstm_reference(problem)
    for name, tensor in run(problem).items():
        assert error(tensor.cpu(), expected[name]) == 0, name


@needs_device
@pytest.mark.parametrize("reverse", [False, True])
def test_inference_gives_what_training_gives(reverse: bool) -> None:
    """The sizes are such that inference projects the gates of the steps in two parts."""
    problem = lstm_problem(100, 64, 32, 1024, torch.float32, 0, reverse=reverse)
    for actual, expected in zip(forward(problem, False)[:3], forward(problem)[:3], strict=True):
        assert error(actual.cpu(), expected.double().cpu().numpy()) <= 1e-5
    assert [t.numel() for t in forward(problem, False)[3:]] == [0, 0]


@needs_device
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("classes", [1, 7, 33, 1000, 10007, 50257])
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_its_gradient_match_the_reference(
    dtype: torch.dtype, classes: int, offset: int
) -> None:
    """With an offset, logits begin within a vector of the kernel's, and their gradient does not."""
    random = generator(classes)
    rows = 35
    buffer = (normal((rows * classes + offset,), torch.float64, random) * 3).to(dtype)
    target = torch.randint(classes, (5, 7), generator=random)
    target[torch.rand((5, 7), generator=random) < 0.2] = -1
    logits = buffer[offset:].view(5, 7, classes)
    expected, d_logits = loss_reference(logits, target, -1)
    moved = buffer.to(DEVICE)[offset:].view(5, 7, classes)
    loss, gradient = loss_and_gradient(moved, target)

    leaf = moved.detach().requires_grad_()
    flat = target.flatten().to(DEVICE)
    peer = torch.nn.functional.cross_entropy(leaf.flatten(0, 1), flat, ignore_index=-1)
    (of_peer,) = torch.autograd.grad(peer, leaf)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    eps = torch.finfo(loss.dtype).eps
    assert abs(loss.item() - expected) <= max(2 * abs(peer.item() - expected), 4 * eps * expected)
    floor = FLOOR[dtype] * torch.finfo(dtype).eps
    assert error(gradient.cpu(), d_logits) <= max(2 * error(of_peer.cpu(), d_logits), floor)


@needs_device
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 5])
def test_loss_is_zero_where_no_row_counts(rows: int, dtype: torch.dtype) -> None:
    target = torch.full((rows,), 3)
    loss, gradient = loss_and_gradient(torch.randn(rows, 9, dtype=dtype), target, ignore_index=3)
    assert loss.item() == 0
    assert not gradient.any()


@needs_device
@pytest.mark.parametrize("dtype", DTYPES)
def test_target_out_of_range_makes_its_row_and_the_loss_nan(dtype: torch.dtype) -> None:
    logits = torch.randn(6, 33, dtype=dtype)
    bad = torch.tensor([4, 33, -2, 1 << 62, -(1 << 62), -1])
    good = torch.tensor([4, 0, 0, 0, 0, -1])
    loss, gradient = loss_and_gradient(logits, bad)
    _, expected = loss_and_gradient(logits, good)
    assert loss.isnan()
    assert gradient[1:5].isnan().all()
    assert_same_bits([gradient[0], gradient[5]], [expected[0], expected[5]])


@needs_device
def test_logits_of_more_than_two_to_the_31_elements() -> None:
    rows, classes = (1 << 16) + 3, 1 << 15
    if torch.cuda.mem_get_info(DEVICE)[0] < 10 * 2**30:
        pytest.skip("needs 10 GiB of free device memory")
    logits = torch.zeros(rows, classes, dtype=torch.bfloat16, device=DEVICE)
    target = torch.full((rows,), -1)
    target[-1] = classes - 1
    logits[-1, :2] = 3
    loss, gradient = loss_and_gradient(logits, target)
    small, of_small = loss_and_gradient(logits[-1:].clone(), target[-1:])
    assert_same_bits([loss, gradient[-1]], [small, of_small[0]])
    assert not gradient[:-1].any()


# --- behaviour on a device -----------------------------------------------------------------------


def everything(problem: LstmProblem, logits: Tensor, target: Tensor) -> list[Tensor]:
    """All results of all ops."""
    kept = forward(problem)
    return [*kept, *backward(problem, kept), *loss_and_gradient(logits, target)]


@pytest.fixture(params=DTYPES, ids=list(PRECISIONS))
def sample(request: pytest.FixtureRequest) -> tuple[LstmProblem, Tensor, Tensor]:
    """Arguments of all ops, on the device."""
    random = generator(0)
    problem = on_device(lstm_problem(9, 20, 33, 130, request.param, 0, reverse=True))
    logits = normal((9, 20, 1001), request.param, random)
    target = torch.randint(-1, 1001, (9, 20), generator=random)
    return problem, logits.to(DEVICE), target.to(DEVICE)


Sample = tuple[LstmProblem, Tensor, Tensor]


@needs_device
def test_five_runs_give_the_same_bits(sample: Sample) -> None:
    first = everything(*sample)
    for _ in range(4):
        assert_same_bits(everything(*sample), first)


@needs_device
def test_every_element_of_every_result_is_written(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch fills new memory with NaN under deterministic algorithms."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1, device=DEVICE).isnan()
        assert all(t.isfinite().all() for t in everything(*sample))
        assert all(t.isfinite().all() for t in forward(sample[0], keep=False))
    finally:
        torch.use_deterministic_algorithms(False)


@needs_device
def test_arguments_and_kept_values_are_left_alone(sample: Sample) -> None:
    problem, logits, target = sample
    kept = forward(problem)
    tensors = [*problem.present(), *problem.gradients, *kept, logits, target]
    before = [t.clone() for t in tensors if t is not None]
    backward(problem, kept)
    loss_and_gradient(logits, target)
    assert_same_bits([t for t in tensors if t is not None], before)


@needs_device
def test_ops_do_not_wait_for_the_device(sample: Sample) -> None:
    everything(*sample)
    torch.cuda.set_sync_debug_mode("error")
    try:
        everything(*sample)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_device
def test_a_captured_graph_replays_what_eager_gives(sample: Sample) -> None:
    problem, logits, target = sample
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        everything(*sample)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = everything(*sample)
    for tensor in (*problem.present(), logits):
        tensor.mul_(0.5)  # a graph reads its inputs where they were
    graph.replay()
    assert_same_bits(captured, everything(problem, logits, target))


@needs_device
def test_ops_run_on_the_current_stream(sample: Sample) -> None:
    """On another stream the inputs would be read before they are there."""
    problem, logits, target = sample
    expected = everything(*sample)
    late = replace(
        problem, arguments=tuple(torch.full_like(t, torch.nan) for t in problem.present())
    )
    late_logits = torch.full_like(logits, torch.nan)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        for to, tensor in zip(late.present(), problem.present(), strict=True):
            to.copy_(tensor)
        late_logits.copy_(logits)
        actual = everything(late, late_logits, target)
    stream.synchronize()
    assert_same_bits(actual, expected)


@needs_device
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
def test_ops_run_on_the_device_of_their_arguments(sample: Sample) -> None:
    problem, logits, target = sample
    expected = everything(*sample)
    other = torch.device("cuda:1")
    arguments = tuple(t.to(other) for t in problem.present())
    kept = ops.lstm_forward(*arguments, problem.reverse, True)
    actual = [*kept, *ops.time_softmax_loss(logits.to(other), target.to(other), -1, True)]
    assert {t.device for t in actual} == {other}
    assert_same_bits([t.cpu() for t in actual[:3]], [t.cpu() for t in expected[:3]])


@needs_device
@pytest.mark.parametrize("case", ["lstm_forward", "lstm_backward", "time_softmax_loss"])
def test_ops_agree_with_their_fake_implementations(sample: Sample, case: str) -> None:
    problem, logits, target = sample
    kept = forward(problem)
    saved = (*problem.arguments[:5], kept[0], kept[3], kept[4])
    cases: dict[str, tuple[Callable[..., object], tuple[object, ...]]] = {
        "lstm_forward": (ops.lstm_forward, (*problem.arguments, True, True)),
        "lstm_backward": (ops.lstm_backward, (*problem.gradients, *saved, True)),
        "time_softmax_loss": (ops.time_softmax_loss, (logits, target, -1, True)),
    }
    op, arguments = cases[case]
    torch.library.opcheck(op, arguments, test_utils=("test_schema", "test_faketensor"))


@needs_device
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int32])
def test_unsupported_dtype_is_refused(dtype: torch.dtype) -> None:
    logits = torch.zeros(2, 3, device=DEVICE).to(dtype)
    with pytest.raises(TypeError, match="^logits has dtype"):
        ops.time_softmax_loss(logits, torch.zeros(2, dtype=torch.int64, device=DEVICE), -1, True)
    problem = on_device(lstm_problem(2, 2, 2, 2, torch.float32, 0))
    arguments = [t.to(dtype) for t in problem.present()]
    with pytest.raises(TypeError, match="^input has dtype"):
        ops.lstm_forward(*arguments, False, True)
