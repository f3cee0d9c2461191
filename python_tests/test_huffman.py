"""Huffman trees against a heap: the same tree, ties included."""

import heapq

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import examples
from seqkern.vectors import HuffmanTree, huffman

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")


def path(tree: HuffmanTree, word: int) -> tuple[list[int], list[int]]:
    start, end = tree.offsets[word], tree.offsets[word + 1]
    return tree.paths[start:end].tolist(), tree.codes[start:end].tolist()


def by_heap(counts: list[int]) -> list[tuple[list[int], list[int]]]:
    """Paths of a heap's tree: inner nodes before words, older inner nodes and later words first."""
    falling = sorted(range(len(counts)), key=lambda word: -counts[word])
    heap = [(counts[word], 1, -place, word) for place, word in enumerate(falling)]
    heapq.heapify(heap)
    paths: list[tuple[list[int], list[int]]] = [([], []) for _ in counts]
    below: dict[tuple[int, int], list[int]] = {(1, word): [word] for word in range(len(counts))}
    for inner in range(len(counts) - 1):
        children = [heapq.heappop(heap), heapq.heappop(heap)]
        below[0, inner] = []
        for code, (_, kind, _, number) in enumerate(children):
            for word in below[kind, number]:
                paths[word][0].insert(0, inner)
                paths[word][1].insert(0, code)
            below[0, inner] += below[kind, number]
        heapq.heappush(heap, (children[0][0] + children[1][0], 0, inner, inner))
    return paths


@given(st.lists(st.integers(0, 12) | st.integers(0, 2**52), max_size=40))
@examples(200)
def test_tree_is_that_of_a_heap(counts: list[int]) -> None:
    tree = huffman(torch.tensor(counts, dtype=torch.int64))
    expected = by_heap(counts)
    assert [path(tree, word) for word in range(len(counts))] == expected
    assert tree.offsets.tolist()[0] == 0
    assert tree.offsets[-1] == len(tree.paths) == len(tree.codes)
    assert (tree.paths.dtype, tree.codes.dtype) == (torch.int32, torch.uint8)
    codes = {tuple(code) for _, code in expected}
    assert not any(code[:size] in codes for code in codes for size in range(len(code)))


def test_expected_length_is_within_a_bit_of_the_entropy() -> None:
    counts = (1e7 / torch.arange(1, 5001)).long()
    tree = huffman(counts)
    p = counts.double() / counts.sum()
    entropy = -(p * p.log2()).sum()
    length = (p * tree.offsets.diff()).sum()
    assert entropy <= length < entropy + 1
    assert torch.exp2(-tree.offsets.diff().double()).sum() == 1  # Kraft: the tree is full
    assert tree.paths.unique().tolist() == list(range(4999))


def test_deepest_tree_is_a_chain() -> None:
    counts = torch.tensor([1 << i for i in range(60)])
    tree = huffman(counts)
    assert tree.offsets.diff().tolist() == [59, *range(59, 0, -1)]
    assert path(tree, 59) == ([58], [1])


def test_few_words() -> None:
    for counts in ([], [3]):
        tree = huffman(torch.tensor(counts, dtype=torch.int64))
        assert tree.offsets.tolist() == [0] * (len(counts) + 1)
        assert len(tree.paths) == len(tree.codes) == 0
    assert path(huffman(torch.tensor([3, 5], dtype=torch.int32)), 1) == ([0], [1])


def test_bad_counts_are_refused() -> None:
    with pytest.raises(TypeError, match="integers, got torch.float32"):
        huffman(torch.ones(3))
    with pytest.raises(ValueError, match=r"shape \(2, 2\), expected \(V,\)"):
        huffman(torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="counts has -4, expected 0 or more"):
        huffman(torch.tensor([1, -4]))
