"""The CUDA kernels of the recurrence, each asked for by name: steps, grid and cluster."""

from dataclasses import replace

import pytest
import torch

import backend
import seqkern.cuda
from backend import on_cuda
from recurrent_cases import NAMES, PLAIN, Problem, draw
from recurrent_ops import check, everything, forward

pytestmark = on_cuda

VARIABLE = "SEQKERN_RECURRENT_KERNEL"
LAYOUTS = ("steps", "grid:8", "grid:16", "grid:8:2", "grid:16:4", "cluster:16", "cluster:32:2")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Options of the persistent kernels.
OPTIONS = (*PLAIN, "heads", "lengths", "resets", "recurrent_mask", "zoneout_h", "zoneout_c")


def solve(problem: Problem, layout: str, recompute: int = 0) -> dict[str, torch.Tensor]:
    """Solve it by a kernel, as SEQKERN_RECURRENT_KERNEL writes it."""
    kernel, *numbers = layout.split(":")
    if kernel == "cluster" and backend.NAME == "cuda" and torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("no clusters below compute capability 9.0")
    names = dict(zip(("units", "groups"), map(int, numbers), strict=False))
    with seqkern.cuda.recurrent_kernel(kernel, **names):
        return everything(problem, recompute)


def some_options(seed: int) -> list[str]:
    """Draw options of the persistent kernels."""
    some = torch.rand(len(OPTIONS), generator=torch.Generator().manual_seed(seed)) < 0.5
    return [name for name, there in zip(OPTIONS, some.tolist(), strict=True) if there]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cell", NAMES)
def test_every_layout_matches_the_reference(cell: str, layout: str, dtype: torch.dtype) -> None:
    """Units and sequences fill neither the last block nor the last group."""
    check(problem := draw(cell, (4, 20, 3, 40), dtype, 0), solve(problem, layout))


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("layout", ["grid:8:2", "cluster:16:2"])
@pytest.mark.parametrize("cell", NAMES)
def test_options_match_the_reference(cell: str, layout: str, number: int) -> None:
    problem = draw(
        *(cell, (5, 10, 3, 24), DTYPES[number % 3], number, some_options(number)),
        reverse=number % 2 == 0,
        reset_to_initial=number % 4 < 2,
    )
    check(problem, solve(problem, layout, recompute=number % 3))


@pytest.mark.parametrize("hidden", [1, 7, 9, 37])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["grid:8", "cluster:16"])
@pytest.mark.parametrize("cell", NAMES)
def test_rows_that_fill_no_vectors(cell: str, layout: str, dtype: torch.dtype, hidden: int) -> None:
    for recompute in (0, 2):
        problem = draw(cell, (3, 3, 2, hidden), dtype, hidden, ("h_0", "heads"))
        check(problem, solve(problem, layout, recompute))


@pytest.mark.parametrize(("dtype", "hidden"), [(torch.float32, 136), (torch.bfloat16, 264)])
@pytest.mark.parametrize("layout", ["grid:16", "cluster:32"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before"])
def test_weights_that_registers_do_not_hold(
    cell: str, layout: str, dtype: torch.dtype, hidden: int
) -> None:
    problem = draw(cell, (3, 3, 2, hidden), dtype, 0)
    check(problem, solve(problem, layout))


@pytest.mark.parametrize(
    ("setting", "value", "tf32"),
    [
        ("allow_tf32", False, False),
        ("allow_tf32", True, True),
        ("fp32_precision", "ieee", False),
        ("fp32_precision", "tf32", True),
    ],
)
def test_float32_products_are_of_the_precision_that_torch_is_set_to(
    setting: str, value: bool | str, tf32: bool
) -> None:
    """TF32 has 10 bits of mantissa, and errs by about 2^-11 in each factor."""
    problem = draw("lstm", (6, 16, 8, 128), torch.float32, 0)
    exact = solve(problem, "steps")["output"]
    matmul = torch.backends.cuda.matmul
    before = getattr(matmul, setting)
    setattr(matmul, setting, value)
    try:
        found = solve(problem, "grid:16")["output"]
    finally:
        setattr(matmul, setting, before)
    error = (found - exact).abs().max().item()
    assert (1e-5 < error < 1e-2) if tf32 else error < 2e-6


@pytest.mark.parametrize("layout", ["grid:8", "cluster:16"])
@pytest.mark.parametrize("cell", NAMES)
def test_nan_of_any_bits_is_handed_on(cell: str, layout: str) -> None:
    """A NaN of all ones stands for what is not there yet."""
    problem = draw(cell, (4, 2, 3, 16), torch.float32, 0, ("h_0",))
    for value in (-1, 0x7FC00000):
        h_0 = problem.arguments["h_0"].clone()
        h_0[0] = torch.tensor(value, dtype=torch.int32).view(torch.float32)
        x = problem.arguments["input"].clone()
        x[2, 0, 0] = h_0[0, 0]
        found = solve(replace(problem, arguments={**problem.arguments, "h_0": h_0}), layout)
        assert found["output"][:, 0].isnan().all()
        assert found["output"][:, 1].isfinite().all()
        found = solve(replace(problem, arguments={**problem.arguments, "input": x}), layout)
        assert found["output"][2:, 0].isnan().all()
        assert found["output"][:2].isfinite().all()
        if cell != "rnn_relu":  # whose slope at NaN is 0
            assert found["d_h_0"][0].isnan().all()
        assert found["d_h_0"][1].isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before"])
def test_five_runs_give_the_same_bits(cell: str, layout: str) -> None:
    """Threads and blocks run in another order each time."""
    problem = draw(cell, (4, 20, 3, 24), torch.bfloat16, 0)
    first = solve(problem, layout)
    for _ in range(4):
        for name, tensor in solve(problem, layout).items():
            assert torch.equal(tensor, first[name]), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inference_gives_what_training_gives(layout: str) -> None:
    problem = draw("gru", (5, 10, 3, 24), torch.float32, 0, some_options(3))
    expected = solve(problem, layout)
    with seqkern.cuda.recurrent_kernel(layout.split(":")[0]):
        output, h_n, *_ = forward(problem, keep_cells=False, keep=False)
    check(problem, {"output": output, "h_n": h_n})
    assert (output - expected["output"]).abs().max() < 1e-5


@pytest.mark.parametrize(
    "text", ["rows", "grid:32", "cluster:8", "grid:8:2:1", "grid:x", "steps:8"]
)
def test_a_kernel_that_there_is_not_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=f"^SEQKERN_RECURRENT_KERNEL is '{text}', expected steps"):
        everything(draw("lstm", (2, 2, 2, 8), torch.float32, 0))


def test_a_layout_that_the_device_cannot_run_is_refused() -> None:
    problem = draw("lstm", (2, 1, 1, 1000), torch.float32, 0)
    with pytest.raises(RuntimeError, match="cluster:16:1, which this device cannot run for 1 seq"):
        solve(problem, "cluster:16")


@pytest.mark.parametrize("option", ["norm_hh", "norm_c", "weight_hr"])
def test_what_persistent_kernels_lack_runs_by_steps(option: str) -> None:
    problem = draw("lstm", (3, 2, 3, 8), torch.float32, 0, (option,))
    expected = solve(problem, "steps")
    for name, tensor in solve(problem, "grid").items():
        assert torch.equal(tensor, expected[name]), name
