"""The CUDA ops without a GPU: their code compiled for the host, against the float64 reference.

csrc/tests/cuda_host stands in for CUDA's headers and for the kernels' device primitives, so that
the ops' arithmetic, indices, shapes and dtypes run here, on CPU tensors. What needs a GPU is in
test_cuda.py.
"""

import os
import shutil
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import cpp_extension

from helpers import error, strided
from recurrent_cases import NAMES, OPTIONS, OUTPUTS, PLAIN, Problem, allowed, draw
from recurrent_ops import ROUNDINGS, backward, check, draw_options, everything, forward

CSRC = Path(__file__).resolve().parent.parent / "csrc"
STAND_INS = CSRC / "tests/cuda_host"
OPS = ("cuda_columns", "cuda_recurrent", "cuda_recurrent_steps", "recurrent_checks")
KERNELS = ("columns", "recurrent_backward", "recurrent_forward")
SIZES = (5, 3, 2, 4)  # T, N, D, H

pytestmark = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "c++")) is None, reason="no C++ compiler"
)


@pytest.fixture(scope="module")
def ops(request: pytest.FixtureRequest) -> Any:
    """Build the CUDA ops for the host; a later run finds them in pytest's cache."""
    cache = request.config.cache
    assert cache is not None
    build = Path(cache.mkdir(f"cuda_host-{torch.__version__}")).resolve()
    sources = {f"{name}.cpp": f'#include "ops.h"\n#include "ops/{name}.cpp"\n' for name in OPS}
    sources |= {f"{name}_kernels.cpp": f'#include "cuda/{name}.cu"\n' for name in KERNELS}
    for name, text in sources.items():
        path = build / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        # ninja lies beside python, which need not be on PATH.
        patch.setenv("PATH", sysconfig.get_path("scripts"), prepend=os.pathsep)
        cpp_extension.load(
            "seqkern_cuda_host",
            [*(str(build / name) for name in sources), str(STAND_INS / "half_products.cpp")],
            extra_include_paths=[str(STAND_INS), str(CSRC)],
            extra_cflags=["-O1", "-g0", "-fvisibility=hidden"],
            build_directory=str(build),
            is_python_module=False,
        )
    return torch.ops.seqkern_cuda_host


# --- the recurrent layer -------------------------------------------------------------------------

EVERY_OPTION = [(cell, option) for cell in NAMES for option in OPTIONS if allowed(cell, [option])]


@pytest.mark.parametrize("recompute", [0, 1, 3, 9])
@pytest.mark.parametrize("cell", NAMES)
def test_cell_without_options_matches_the_reference(ops: Any, cell: str, recompute: int) -> None:
    problem = draw(cell, SIZES, torch.float64, 0, ())
    check(problem, everything(ops, problem, recompute), times=8)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("cell", "option"), EVERY_OPTION)
def test_each_option_matches_the_reference(ops: Any, cell: str, option: str, reverse: bool) -> None:
    for options in ([option], [*PLAIN, option], [*PLAIN, option, "lengths"]):
        problem = draw(cell, SIZES, torch.float64, 0, options, reverse=reverse)
        check(problem, everything(ops, problem), times=8)
        check(problem, everything(ops, problem, recompute=2), times=8)


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("cell", NAMES)
def test_options_together_match_the_reference(ops: Any, cell: str, number: int) -> None:
    problem = draw_options(cell, SIZES, torch.float64, number)
    check(problem, everything(ops, problem, recompute=number % 4), times=8)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cell", NAMES)
def test_other_dtypes_match_the_reference(
    ops: Any, cell: str, dtype: torch.dtype, number: int
) -> None:
    problem = draw_options(cell, (4, 3, 5, 8), dtype, number)
    check(problem, everything(ops, problem, recompute=number % 2 * 3), times=8)


@pytest.mark.parametrize(
    "sizes", [(0, 3, 2, 4), (4, 0, 2, 4), (0, 0, 2, 4), (3, 2, 0, 4), (1, 1, 1, 1)]
)
@pytest.mark.parametrize("cell", NAMES)
def test_sizes_of_zero_and_one(ops: Any, cell: str, sizes: tuple[int, int, int, int]) -> None:
    for seed in range(4):
        problem = draw_options(cell, sizes, torch.float64, seed)
        check(problem, everything(ops, problem, recompute=seed % 3), times=100)


@pytest.mark.parametrize("shape", [(0, 12, 4), (2, 0, 0)])
def test_no_heads_or_no_units(ops: Any, shape: tuple[int, int, int]) -> None:
    arguments = {"input": torch.zeros(3, 2, 0), "weight_hh": torch.zeros(shape)}
    for name, tensor in everything(ops, Problem("gru", arguments, {})).items():
        assert tensor.numel() == 0, name


@pytest.mark.parametrize("cell", NAMES)
def test_inference_gives_what_training_gives(ops: Any, cell: str) -> None:
    for seed in range(8):
        problem = draw_options(cell, SIZES, torch.float32, seed)
        *found, cells, kept = forward(ops, problem, keep_cells=False, keep=False)
        assert (cells.numel(), kept.numel()) == (0, 0)
        for one, other in zip(found, forward(ops, problem), strict=False):
            assert torch.equal(one, other)


def test_inference_projects_the_input_of_some_steps_at_a_time(ops: Any) -> None:
    """The sizes are such that the gates of all steps take more than 64 MiB."""
    problem = draw("gru", (40, 20000, 3, 4), torch.float64, 0, (), reverse=True)
    found, expected = forward(ops, problem, keep=False), forward(ops, problem)
    for one, other in zip(found[:2], expected, strict=False):
        assert error(one, other.numpy()) <= 1e-13


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("cell", NAMES)
def test_absent_gradients_count_as_zeros(ops: Any, cell: str, name: str) -> None:
    for seed in range(4):
        problem = draw_options(cell, SIZES, torch.float64, seed)
        gradients = {n: d for n, d in problem.gradients.items() if n == name}
        problem = replace(problem, gradients=gradients)
        check(problem, everything(ops, problem), times=8)


@pytest.mark.parametrize("cell", NAMES)
def test_gradients_that_are_not_wanted_are_empty(ops: Any, cell: str) -> None:
    for seed in range(4):
        problem = draw_options(cell, SIZES, torch.float64, seed)
        results = forward(ops, problem)
        every = backward(ops, problem, results)
        for wanted in ((True, False), (False, True), (False, False)):
            found = backward(ops, problem, results, of_input=wanted[0], of_weights=wanted[1])
            for name, d in found.items():
                there = {"d_input": wanted[0], "d_h_0": True, "d_c_0": True}.get(name, wanted[1])
                assert torch.equal(d, every[name] if there else d.new_empty(0)), name


@pytest.mark.parametrize("cell", NAMES)
def test_arguments_need_not_be_contiguous(ops: Any, cell: str) -> None:
    for seed in range(4):
        problem = draw_options(cell, SIZES, torch.float64, seed)
        arguments = {name: strided(tensor) for name, tensor in problem.arguments.items()}
        gradients = {name: strided(tensor) for name, tensor in problem.gradients.items()}
        views = replace(problem, arguments=arguments, gradients=gradients)
        expected = everything(ops, problem)
        for name, tensor in everything(ops, views).items():
            assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("cell", NAMES)
def test_arguments_are_left_alone_and_results_have_memory_of_their_own(ops: Any, cell: str) -> None:
    for seed in range(8):
        problem = draw_options(cell, SIZES, torch.float64, seed)
        results = forward(ops, problem)
        given = [*problem.arguments.values(), *problem.gradients.values(), *results]
        before = [tensor.clone() for tensor in given]
        found = backward(ops, problem, results)
        for tensor, copy in zip(given, before, strict=True):
            torch.testing.assert_close(tensor, copy, rtol=0, atol=0, equal_nan=True)
        storages = [t.untyped_storage().data_ptr() for t in (*given, *found.values()) if t.numel()]
        assert len(set(storages)) == len(storages)


@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_out_of_range_stay_within_the_tensors(ops: Any, reverse: bool) -> None:
    """They mean none and all steps: a device cannot tell of them in time."""
    problem = draw("lstm", (4, 2, 3, 5), torch.float64, 0, reverse=reverse)
    lengths = torch.tensor([0, 4]), torch.tensor([-(1 << 62), 1 << 62])
    expected, found = (
        everything(ops, replace(problem, arguments=problem.arguments | {"lengths": tensor}))
        for tensor in lengths
    )
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


# --- columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ROUNDINGS, ids=str)
@pytest.mark.parametrize("count", [0, 1, 50])
def test_columns_are_gathered_and_scattered(ops: Any, dtype: torch.dtype, count: int) -> None:
    weight, ids = torch.randn(5, 7).to(dtype), torch.randint(7, (count,))
    assert torch.equal(ops.gather_columns(weight, ids), weight[:, ids].t())
    assert torch.equal(ops.gather_columns(weight.t().contiguous().t(), ids), weight[:, ids].t())
    rows = torch.randn(count, 5).to(dtype)
    expected = torch.zeros(5, 7, dtype=torch.float64).index_add(1, ids, rows.double().t())
    found = ops.scatter_columns(rows, ids, 7)
    assert found.dtype == dtype
    assert found.is_contiguous()
    assert error(found, expected.numpy()) <= 4 * torch.finfo(dtype).eps


def test_columns_out_of_range_are_nan_and_get_nothing(ops: Any) -> None:
    ids = torch.tensor([2, 3, -1, 1 << 62, -(1 << 62)])
    gathered = ops.gather_columns(torch.eye(3), ids)
    assert torch.equal(gathered[0], torch.tensor([0.0, 0.0, 1.0]))
    assert gathered[1:].isnan().all()
    expected = torch.tensor([[0.0, 0.0, 1.0]] * 2)
    assert torch.equal(ops.scatter_columns(torch.ones(5, 2), ids, 3), expected)
