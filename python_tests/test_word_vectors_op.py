"""The op that trains word vectors: every option, to first order, on every backend."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from backend import on_cpu, on_cuda
from helpers import examples
from word_vector_gradients import FirstOrder, Problem, check_changes, draw, first_order

ops = torch.ops.seqkern


def check(problem: Problem) -> None:
    """Compare the op with the oracle."""
    expected = first_order(problem)
    matrix, other, _ = problem.train(workers=1)
    size = problem.options["vector_size"]
    assert not matrix[:, size:].any()
    assert not other[:, size:].any()
    check_changes(problem.input, matrix, expected.input)
    check_changes(problem.output, other, expected.output)
    check_totals(problem, expected)


def check_totals(problem: Problem, expected: FirstOrder) -> None:
    """Compare the totals, at a rate that changes nothing."""
    problem.totals = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    problem.options |= {"rate": 2.0**-80, "rate_step": 0.0}
    matrix, other, totals = problem.train(workers=1)
    assert torch.equal(matrix, problem.input)
    assert torch.equal(other, problem.output)
    loss, *counts = (totals - problem.totals).tolist()
    assert loss == pytest.approx(expected.loss, rel=1e-5)
    assert counts == [expected.examples, expected.words]


CASES: dict[str, dict[str, Any]] = {
    "skip-gram": {},
    "all words stay": {"sample": False},
    "fixed windows": {"shrink_windows": False},
    "one neighbour": {"window": 1},
    "sentences of two words": {"sentence": 3},
    "one negative": {"negatives": 1},
    "many negatives": {"negatives": 75, "length": 40},
    "shared negatives": {"shared": True},
    "many shared negatives": {"shared": True, "negatives": 140, "length": 40},
    "path": {"path": True},
    "subwords": {"subwords": True},
    "subwords, sum": {"subwords": True, "mean": False},
    "subwords, word2vec's update": {"subwords": True, "exact": False},
    "subwords, shared negatives": {"subwords": True, "shared": True},
    "CBOW": {"cbow": True},
    "CBOW, sum": {"cbow": True, "mean": False},
    "CBOW, word2vec's update": {"cbow": True, "exact": False},
    "CBOW, path": {"cbow": True, "path": True},
    "CBOW, subwords": {"cbow": True, "subwords": True},
    "window beyond the text": {"window": 1000, "shrink_windows": False, "length": 40},
    "window of more than a warp": {"window": 40, "sentence": 99, "negatives": 2, "length": 70},
    "CBOW, window of more than a warp": {"cbow": True, "window": 70, "sentence": 999},
}


@pytest.mark.parametrize("part", [False, True], ids=["whole", "part"])
@pytest.mark.parametrize("case", CASES)
def test_changes_are_the_examples_gradients(case: str, part: bool, torch_seed: int) -> None:
    check(draw(torch_seed, part=part, **CASES[case]))


@pytest.mark.parametrize("kind", [{}, {"shared": True}, {"cbow": True}], ids=str)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 100, 128, 129, 256, 300, 384, 385, 800])
def test_vectors_of_any_size(size: int, kind: dict[str, Any], torch_seed: int) -> None:
    check(draw(torch_seed, size=size, length=40, **kind))


@pytest.mark.parametrize("length", [0, 1, 2, 31, 32, 33, 65, 129])
def test_texts_of_any_length(length: int, torch_seed: int) -> None:
    check(draw(torch_seed, length=length))


flags = ("cbow", "shrink_windows", "mean", "exact", "shared", "path", "subwords", "sample", "part")


@examples(60)
@given(
    seed=st.integers(0, 2**32),
    options=st.fixed_dictionaries({flag: st.booleans() for flag in flags}),
    window=st.integers(1, 6),
    negatives=st.integers(1, 12),
    size=st.integers(1, 150),
    sentence=st.integers(2, 50),
)
def test_options_together(seed: int, options: dict[str, bool], **sizes: int) -> None:
    check(draw(seed, length=60, **options, **sizes))


def test_a_place_has_the_same_examples_in_every_slice(torch_seed: int) -> None:
    problem = draw(torch_seed)
    whole = first_order(problem)
    total = np.zeros_like(whole.input)
    cuts = [0, 1, 30, 31, 64, len(problem.ids)]
    counts = torch.zeros(3, dtype=torch.float64)
    for problem.begin, problem.end in pairwise(cuts):
        after, _, totals = problem.train()
        total += (after.double() - problem.input.double()).numpy()
        counts += totals
    assert np.abs(total - whole.input).max() <= 0.01 * np.abs(whole.input).max()
    assert counts.tolist()[1:] == [whole.examples, whole.words]


def test_large_dots_neither_overflow_nor_vanish() -> None:
    problem = draw(1, sample=False)
    problem.input *= 1e3
    problem.output *= 1e3
    check_totals(problem, first_order(problem))


@on_cuda
@pytest.mark.parametrize("bad", [-5, 30, 2**31 - 1])
def test_ids_out_of_range_end_a_sentence(bad: int, torch_seed: int) -> None:
    problem = draw(torch_seed)
    problem.ids[::7] = bad
    check(problem)


@on_cuda
def test_negatives_out_of_range_are_left_out(torch_seed: int) -> None:
    problem = draw(torch_seed)
    problem.options["noise"][::2] = torch.tensor([0, 30], dtype=torch.int32)
    problem.options["noise"][3::4] = torch.tensor([0, -9], dtype=torch.int32)
    check(problem)


@on_cuda
@pytest.mark.parametrize("kind", ["path", "subwords"])
def test_rows_out_of_range_are_left_out(kind: str, torch_seed: int) -> None:
    problem = draw(torch_seed, **{kind: True})
    rows, offsets = kind, "path_offsets" if kind == "path" else "subword_offsets"
    problem.options[rows][::3] = 1000
    problem.options[rows][1::3] = -1000
    problem.options[offsets][5:9] = torch.tensor([-(2**62), 2**62, 10**6, -3])
    *matrices, totals = problem.train()
    assert all(tensor.isfinite().all() for tensor in (*matrices, totals))


@on_cuda
def test_deterministic_training_is_refused() -> None:
    problem = draw(1)
    with pytest.raises(NotImplementedError, match="no deterministic training on CUDA"):
        problem.train(deterministic=True)
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(NotImplementedError, match="no deterministic training on CUDA"):
            problem.train()
    finally:
        torch.use_deterministic_algorithms(False)


@on_cpu
def test_ids_out_of_range_are_refused() -> None:
    problem = draw(1)
    problem.ids[7] = 30
    with pytest.raises(IndexError, match="^ids holds 30 at position 7, expected less than 30"):
        problem.train()


def test_matrices_that_require_gradients_are_refused() -> None:
    matrix, *others = draw(1).arguments()
    assert isinstance(matrix, Tensor)
    with pytest.raises(NotImplementedError, match="has no autograd formula of its own"):
        ops.train_word_vectors_(matrix.requires_grad_(), *others, **draw(1).options)


@pytest.mark.parametrize("kind", [{}, {"cbow": True, "path": True, "subwords": True}], ids=str)
def test_the_op_agrees_with_its_fake_implementation(kind: dict[str, Any]) -> None:
    problem = draw(1, length=20, **kind)
    torch.library.opcheck(
        ops.train_word_vectors_,
        problem.arguments(),
        problem.options,
        test_utils=("test_schema", "test_faketensor"),
    )


def test_labels_must_be_those_of_the_path() -> None:
    problem = draw(1, path=True)
    problem.options["path_labels"] = problem.options["path_labels"][:-1]
    with pytest.raises(ValueError, match="^path_labels has shape"):
        problem.train()
