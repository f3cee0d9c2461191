"""What only tensors on a CUDA device can show: `pytest --backend cuda`.

The numbers of large layers, in the precisions of the device's products, with torch there as measure
of error; streams, graphs and devices; whether word vectors learn. All else of the ops is in the
tests of every backend.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import backend
import sampling_cases
import seqkern
import word_vector_gradients
from helpers import error, generator, normal
from negative_sampling_cases import op_arguments as sampling_arguments
from recurrent_cases import NAMES, OUTPUTS, PLAIN, Problem, composite, draw
from recurrent_ops import backward, check, draw_options, everything, forward
from seqkern.functional._recurrent_arguments import ARGUMENTS
from seqkern.functional.sampling import AliasTable, alias_table
from seqkern.vectors import Word2Vec
from softmax_cases import MEAN, op_arguments

ops = torch.ops.seqkern

needs_build = pytest.mark.skipif(
    not seqkern.build_info()["cuda"], reason="seqkern was built without CUDA"
)
needs_device = pytest.mark.backends("cuda", reason="needs a CUDA device")
DEVICE = torch.device("cuda")

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
PRECISIONS = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}


@pytest.fixture(params=[*PRECISIONS, "tf32"])
def precision(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """Each dtype in turn, and float32 with TF32 products allowed."""
    settings = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [setting.allow_tf32 for setting in settings]
    for setting in settings:
        setting.allow_tf32 = request.param == "tf32"
    yield PRECISIONS.get(request.param, torch.float32)
    for setting, allowed in zip(settings, before, strict=True):
        setting.allow_tf32 = allowed


def on(device: torch.device, problem: Problem) -> Problem:
    """Return the problem with its tensors on a device."""
    return replace(
        problem,
        arguments={name: t.to(device) for name, t in problem.arguments.items()},
        gradients={name: t.to(device) for name, t in problem.gradients.items()},
    )


def check_on_device(problem: Problem, recompute: int = 0) -> None:
    """Compare forward and backward with the reference; torch's error on the device is the bound."""
    moved = on(DEVICE, problem)
    check(problem, everything(moved, recompute), peer=composite(moved))


def loss_and_gradient(logits: Tensor, target: Tensor, ignore_index: int = -1) -> list[Tensor]:
    """Call the loss op on the device."""
    options = (None, ignore_index, 0.0, 0.0, 0.0, 1.0, 0, 0)
    loss, *_, gradient = ops.softmax_loss(
        *(logits.to(DEVICE), target.to(DEVICE), *options), MEAN, False, True
    )
    return [loss, gradient]


def losses_with_options(logits: Tensor, target: Tensor) -> list[Tensor]:
    """Call all ops of the softmax loss, with every option; the layer's logits take three chunks."""
    logits, target = logits.flatten(0, 1), target.flatten()
    classes, rows = logits.shape[1], len(logits)
    hidden, weight = logits[:, :64], logits.t()[:, :64].contiguous()
    class_weight = torch.linspace(0.5, 2, classes, device=logits.device)
    options = (class_weight, -1, 0.1, 1e-3, 5.0, 0.7, 0, 0)
    found = list(ops.softmax_loss(logits, target, *options, MEAN, True, True))
    d_numbers = torch.ones(4, rows, dtype=found[1].dtype, device=logits.device)
    found.append(ops.softmax_loss_backward(logits, target, *options, found[1], d_numbers))
    layer = (hidden, weight, class_weight.to(hidden.dtype), target, *options)
    wanted, workspace = [True] * 3, -(-rows // 3) * classes * hidden.itemsize
    of_layer = ops.linear_softmax_loss(*layer, MEAN, True, wanted, workspace)
    known = (of_layer[1], d_numbers, wanted, workspace)
    return [*found, *of_layer, *ops.linear_softmax_loss_backward(*layer, *known)]


@cache
def table_on_device(classes: int) -> AliasTable:
    """Return a distribution; its copy to the device is the one thing that waits for it."""
    return alias_table(sampling_cases.zipf(classes)).to(DEVICE)


def draws(target: Tensor) -> list[Tensor]:
    """Draw independently, and rows: of few and many classes, and of all but the target."""
    table, few, seed = table_on_device(1001), table_on_device(9), target[:1]
    counts = ((table, 5), (table, 40), (few, 8))
    found = [ops.sample_distinct(*of, target, seed, count) for of, count in counts]
    return [ops.sample_alias(table.table, seed, 1001), *found]


def sampling(logits: Tensor, target: Tensor) -> list[Tensor]:
    """Call all ops of negative sampling, with dense and sparse gradients; words repeat."""
    matrix, ids = logits.flatten(0, 1)[:, :130], target.flatten()
    weight, words = matrix[:97], ids.clamp(0) % 97
    negatives = torch.stack([(words + k * k) % 97 for k in range(5)], 1)
    contexts = torch.where(ids.unsqueeze(1) % 3 == 0, -1, negatives)
    both, found = [True, True], []
    for source, bags in ((matrix, None), (weight.clone(), contexts)):
        given = (source, weight, bags, -1, words, negatives)
        for sparse in (False, True):
            results = ops.negative_sampling_loss(*given, MEAN, both, sparse)
            d_losses = results[0].expand(len(ids))
            results += ops.negative_sampling_loss_backward(*given, d_losses, both, sparse)
            found += results
    for sparse in (False, True):
        scores = ops.embedding_dot(matrix, weight, negatives)
        dots = ops.embedding_dot_backward(scores, matrix, weight, negatives, both, sparse)
        found += [scores, *dots]
    return found


def assert_same_bits(actual: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@needs_build
@pytest.mark.parametrize("op", backend.OPS)
def test_a_cuda_build_registers_every_op_for_cuda(op: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"seqkern::{op}", "CUDA")


# --- numbers -------------------------------------------------------------------------------------


@needs_device
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "sizes", [(35, 20, 100, 100), (7, 3, 17, 130), (3, 1, 1, 40), (12, 64, 256, 512)]
)
@pytest.mark.parametrize("cell", NAMES)
def test_cells_match_the_reference(
    cell: str, sizes: tuple[int, int, int, int], reverse: bool, precision: torch.dtype
) -> None:
    check_on_device(draw(cell, sizes, precision, sum(sizes), PLAIN, reverse=reverse))


@needs_device
@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("cell", NAMES)
def test_options_together_match_the_reference(
    cell: str, number: int, precision: torch.dtype
) -> None:
    check_on_device(draw_options(cell, (9, 20, 33, 130), precision, number), number % 2 * 4)


@needs_device
@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("cell", NAMES)
def test_no_steps_or_no_sequences(
    cell: str, steps: int, batch: int, precision: torch.dtype
) -> None:
    for number in range(4):
        check_on_device(draw_options(cell, (steps, batch, 4, 6), precision, number), number % 2)


@needs_device
@pytest.mark.parametrize("reverse", [False, True])
def test_inference_gives_what_training_gives(reverse: bool) -> None:
    """The sizes are such that inference projects the gates of the steps in two parts."""
    problem = on(
        DEVICE, draw("lstm", (100, 64, 32, 1024), torch.float32, 0, PLAIN, reverse=reverse)
    )
    *found, cells, kept = forward(problem, keep_cells=False, keep=False)
    assert (cells.numel(), kept.numel()) == (0, 0)
    for actual, expected in zip(found, forward(problem), strict=False):
        assert error(actual.cpu(), expected.double().cpu().numpy()) <= 1e-5


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

Sample = tuple[list[Problem], Tensor, Tensor]


@pytest.fixture(params=DTYPES, ids=list(PRECISIONS))
def sample(request: pytest.FixtureRequest) -> Sample:
    """Arguments of all ops on the device: of every cell twice, with other options each time."""
    problems = [
        on(DEVICE, draw_options(cell, (9, 20, 33, 130), request.param, seed))
        for cell in NAMES
        for seed in (2, 5)
    ]
    random = generator(0)
    logits = normal((9, 20, 1001), request.param, random)
    target = torch.randint(-1, 1001, (9, 20), generator=random)
    return problems, logits.to(DEVICE), target.to(DEVICE)


def everything_of(sample: Sample) -> list[Tensor]:
    """All results of all ops, but for what forward keeps."""
    problems, logits, target = sample
    found = [t for n in (0, 4) for p in problems for t in everything(p, n).values()]
    ids = target.flatten()
    rows = ops.gather_columns(logits[0], ids.clamp(0))
    found += [rows, ops.scatter_columns(rows, ids, 1001), *loss_and_gradient(logits, target)]
    found += sampling(logits, target)
    return found + losses_with_options(logits, target) + draws(ids)


def tensors_of(sample: Sample) -> list[Tensor]:
    """All arguments."""
    problems, logits, target = sample
    given = [t for p in problems for t in (*p.arguments.values(), *p.gradients.values())]
    return [*given, logits, target]


@needs_device
def test_five_runs_give_the_same_bits(sample: Sample) -> None:
    first = everything_of(sample)
    for _ in range(4):
        assert_same_bits(everything_of(sample), first)


@needs_device
def test_every_element_of_every_result_is_written(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch fills new memory with NaN under deterministic algorithms."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1, device=DEVICE).isnan()
        assert all(t.isfinite().all() for t in everything_of(sample))
        for problem in sample[0]:
            *found, _ = forward(problem, keep=False)
            assert all(t.isfinite().all() for t in found)
    finally:
        torch.use_deterministic_algorithms(False)


@needs_device
def test_arguments_and_kept_values_are_left_alone(sample: Sample) -> None:
    kept = [forward(problem) for problem in sample[0]]
    tensors = [*tensors_of(sample), *(t for results in kept for t in results)]
    before = [t.clone() for t in tensors]
    for problem, results in zip(sample[0], kept, strict=True):
        backward(problem, results)
    everything_of(sample)
    assert_same_bits(tensors, before)


@needs_device
def test_ops_do_not_wait_for_the_device(sample: Sample) -> None:
    everything_of(sample)
    torch.cuda.set_sync_debug_mode("error")
    try:
        everything_of(sample)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_device
def test_a_captured_graph_replays_what_eager_gives(sample: Sample) -> None:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        everything_of(sample)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = everything_of(sample)
    for tensor in tensors_of(sample):
        if tensor.is_floating_point():
            tensor.mul_(0.5)  # a graph reads its inputs where they were
    graph.replay()
    assert_same_bits(captured, everything_of(sample))


@needs_device
def test_ops_run_on_the_current_stream(sample: Sample) -> None:
    """On another stream the inputs would be read before they are there."""
    expected = everything_of(sample)
    tensors = tensors_of(sample)
    values = [t.clone() for t in tensors]
    for tensor in tensors:
        tensor.fill_(torch.nan if tensor.is_floating_point() else 0)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)
        actual = everything_of(sample)
    stream.synchronize()
    assert_same_bits(actual, expected)


@needs_device
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
def test_ops_run_on_the_device_of_their_arguments(sample: Sample) -> None:
    problem, other = sample[0][0], torch.device("cuda:1")
    actual = list(everything(on(other, problem)).values())
    assert {t.device for t in actual} == {other}
    expected = everything(problem).values()
    assert_same_bits([t.cpu() for t in actual], [t.cpu() for t in expected])


@needs_device
@pytest.mark.parametrize("case", backend.OPS)
def test_ops_agree_with_their_fake_implementations(sample: Sample, case: str) -> None:
    (problem, *_), logits, target = sample
    output, _, _, cells, kept = forward(problem)
    tensors = [problem.arguments.get(name) for name in ARGUMENTS]
    gradients = [problem.gradients.get(name) for name in OUTPUTS]
    ids = target.flatten().clamp(0)
    cases: dict[str, tuple[object, ...]] = {
        "recurrent_forward": (problem.cell, *tensors, False, problem.reverse, True, True),
        "recurrent_backward": (
            *(problem.cell, *gradients, *tensors, output, cells, kept),
            *(False, problem.reverse, 0, True, True),
        ),
        "gather_columns": (logits[0], ids),
        "scatter_columns": (logits[0].t()[:180], ids, 1001),
    }
    others = op_arguments(logits.dtype) | sampling_arguments(logits.dtype)
    others |= sampling_cases.op_arguments()
    words = word_vector_gradients.draw(0)
    others["train_word_vectors_"] = words.arguments()
    cases |= pytree.tree_map_only(Tensor, Tensor.cuda, others)
    options = words.options if case == "train_word_vectors_" else {}
    options = pytree.tree_map_only(Tensor, Tensor.cuda, options)
    op: Callable[..., object] = getattr(ops, case)
    torch.library.opcheck(op, cases[case], options, test_utils=("test_schema", "test_faketensor"))


# --- word vectors, whose bits vary from run to run -----------------------------------------------

WORDS: dict[str, dict[str, bool]] = {
    "skip-gram": {"sg": True},
    "shared negatives": {"sg": True, "shared_negatives": True},
    "CBOW": {},
    "path": {"sg": True, "hs": True},
}


@needs_device
@pytest.mark.parametrize("eager", [True, False], ids=["eager", "graph"])
def test_word_vectors_train_on_the_current_stream_without_waiting(eager: bool) -> None:
    problem = word_vector_gradients.draw(1, size=100, vocabulary=3000, length=4000)
    there, options = pytree.tree_map_only(
        Tensor, Tensor.cuda, (problem.arguments(), problem.options)
    )

    def train() -> None:
        ops.train_word_vectors_(*there, **options)

    pinned = problem.input.pin_memory()
    torch.cuda.synchronize()
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.stream(stream):
            there[0].zero_()
            torch.cuda._sleep(100_000_000)
            there[0].copy_(pinned, non_blocking=True)
            if eager:
                train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    stream.synchronize()
    if not eager:
        with torch.cuda.graph(graph):
            train()
        graph.replay()
    expected = word_vector_gradients.first_order(problem)
    word_vector_gradients.check_changes(problem.input, there[0].cpu(), expected.input)
    word_vector_gradients.check_changes(problem.output, there[1].cpu(), expected.output)
    assert there[2].tolist()[1:] == [expected.examples, expected.words]


@needs_device
@pytest.mark.parametrize("vocabulary", [20, 2000])
@pytest.mark.parametrize("kind", WORDS)
def test_word_vectors_learn_as_much_as_on_the_cpu(kind: str, vocabulary: int) -> None:
    """Thousands of warps change the same rows: neither does that diverge, nor is much lost.

    Words come in pairs, so that half of a text can be foreseen.
    """
    random = generator(3)
    weights = sampling_cases.zipf(vocabulary)
    drawn = torch.multinomial(weights, 200_000, replacement=True, generator=random).tolist()
    words = [name for word in drawn for name in (f"a{word}", f"b{word}")]
    text = [words[i : i + 50] for i in range(0, len(words), 50)]

    def loss(device: str) -> float:
        options = {"vector_size": 64, "window": 2, "min_count": 1, "epochs": 3, **WORDS[kind]}
        return Word2Vec(text, **options, device=device).epoch_losses[-1]

    assert loss("cuda") == pytest.approx(loss("cpu"), rel=0.05)
