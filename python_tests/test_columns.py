"""Token ids as input, and the columns of a weight that they stand for."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import seqkern.functional as F
from backend import on_cpu
from helpers import generator
from recurrent_cases import NAMES, PLAIN, Problem, draw, run


def tokens_and_one_hot(cell: str, **flags: bool) -> tuple[Problem, Problem]:
    """Return a problem of token ids, and the same with their one-hot encoding."""
    problem = draw(cell, (5, 6, 23, 17), torch.float32, 8, (*PLAIN, "lengths"), **flags)
    ids = torch.randint(20, (5, 6), generator=generator(9))
    one_hot = torch.nn.functional.one_hot(ids, 23).float()
    ids[torch.arange(5)[:, None] >= problem.arguments["lengths"]] = -100
    return (
        replace(problem, arguments=problem.arguments | {"input": ids}),
        replace(problem, arguments=problem.arguments | {"input": one_hot}),
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", NAMES)
def test_token_ids_are_as_their_one_hot_encoding(cell: str, reverse: bool) -> None:
    tokens, one_hot = tokens_and_one_hot(cell, reverse=reverse)
    actual, expected = run(tokens), run(one_hot)
    del expected["d_input"]
    torch.testing.assert_close(actual, expected)
    assert not actual["d_weight_ih"][:, 20:].any()  # columns of no token


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_token_ids_may_be_integers_of_any_size(dtype: torch.dtype) -> None:
    problem, _ = tokens_and_one_hot("gru")
    del problem.arguments["lengths"]
    problem.arguments["input"].clamp_(min=0)
    narrow = problem.arguments | {"input": problem.arguments["input"].to(dtype)}
    assert torch.equal(
        F.recurrent("gru", **narrow).output, F.recurrent("gru", **problem.arguments).output
    )


@on_cpu
@pytest.mark.parametrize("token", [-1, 23])
@pytest.mark.parametrize("masked", [False, True])
def test_token_id_out_of_range_is_an_index_error(token: int, masked: bool) -> None:
    problem, _ = tokens_and_one_hot("gru")
    problem.arguments["input"][0, problem.arguments["lengths"] > 0] = token
    if masked:
        problem.arguments["recurrent_mask"] = torch.ones(6, 17, requires_grad=True)
    with pytest.raises(IndexError):
        F.recurrent("gru", **problem.arguments)


def test_token_ids_have_second_derivatives() -> None:
    ids = torch.tensor([[1, 4], [4, 0]])
    weights = [torch.randn(8, size).double().requires_grad_() for size in (5, 2)]

    def function(weight_ih: Tensor, weight_hh: Tensor) -> Tensor:
        return F.lstm(ids, None, None, weight_ih, weight_hh)[0]

    assert torch.autograd.gradcheck(function, weights, fast_mode=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, weights, fast_mode=True)


def test_gathered_columns_are_the_product_with_one_hot_vectors() -> None:
    weight = torch.randn(5, 7, requires_grad=True)
    ids = torch.tensor([[1, 6, 1], [0, 0, 3]])
    gathered = F.gather_columns(weight, ids)
    expected = torch.nn.functional.one_hot(ids, 7).float() @ weight.T
    assert torch.equal(gathered, expected)
    upstream = torch.randn(2, 3, 5)
    actual = torch.autograd.grad(gathered, weight, upstream)
    torch.testing.assert_close(actual, torch.autograd.grad(expected, weight, upstream))
    assert F.gather_columns(weight, ids[:0]).shape == (0, 3, 5)


@pytest.mark.parametrize(
    ("weight", "ids", "message"),
    [
        ((5,), torch.zeros(2, dtype=torch.int64), r"^weight has shape \[5\], expected 2 dim"),
        ((5, 7), torch.zeros(2), r"^ids have dtype torch.float32, expected integers"),
        (
            (5, 7),
            torch.zeros(2, dtype=torch.bool),
            r"^ids have dtype torch.bool, expected integers",
        ),
        pytest.param((5, 7), torch.tensor([7]), r"^ids\[0\] is 7, expected 0 to 6", marks=on_cpu),
    ],
)
def test_columns_that_do_not_exist_are_refused(
    weight: tuple[int, ...], ids: Tensor, message: str
) -> None:
    with pytest.raises((TypeError, ValueError, IndexError), match=message):
        F.gather_columns(torch.zeros(weight), ids)
