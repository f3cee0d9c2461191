"""The Huffman tree of a vocabulary, for hierarchical softmax."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["HuffmanTree", "huffman"]


class HuffmanTree(NamedTuple):
    """Paths from the root to words.

    The path of word i is ``paths[offsets[i]:offsets[i + 1]]``, the inner nodes it meets, and
    ``codes`` of the same range, which way it goes on from each.
    """

    paths: Tensor
    """Inner nodes, (total,), int32: 0 to V - 2, of which the last is the root."""
    codes: Tensor
    """0 or 1, (total,), uint8."""
    offsets: Tensor
    """(V + 1,), int64."""


def huffman(counts: Tensor) -> HuffmanTree:
    """Build the tree of least expected path length.

    Parameters
    ----------
    counts : Tensor, (V,), integers
        How often each word occurs, in any order.

    Returns
    -------
    HuffmanTree
        On the CPU. Inner nodes number the rows of an output matrix (V - 1, d). A single word has an
        empty path.

    Raises
    ------
    TypeError
        If `counts` are not integers.
    ValueError
        If `counts` has not one dimension, or one of them is negative.

    Notes
    -----
    The two lightest nodes are joined until one is left; the lighter gets code 0. Words by falling
    count, and inner nodes in the order they are made, are two queues, so that this takes V - 1
    steps (van Leeuwen, On the Construction of Huffman Trees, 1976). Of two equally heavy nodes, an
    inner one comes before a word, and a later word (of those sorted, in the given order) before an
    earlier one, as in word2vec.c. Hierarchical softmax: Morin and Bengio, Hierarchical
    Probabilistic Neural Network Language Model, 2005.

    Examples
    --------
    >>> import torch
    >>> tree = huffman(torch.tensor([8, 4, 2, 1]))
    >>> start, end = tree.offsets[2:4]
    >>> tree.paths[start:end].tolist(), tree.codes[start:end].tolist()
    ([2, 1, 0], [0, 0, 1])
    """
    if counts.is_floating_point() or counts.is_complex() or counts.dtype == torch.bool:
        raise TypeError(f"counts must be integers, got {counts.dtype}")
    if counts.ndim != 1:
        raise ValueError(f"counts has shape {tuple(counts.shape)}, expected (V,)")
    weights = counts.detach().cpu().numpy().astype(np.int64)
    if (weights < 0).any():
        raise ValueError(f"counts has {weights.min()}, expected 0 or more")
    if len(weights) < 2:
        empty = torch.empty(0, dtype=torch.int32)
        return HuffmanTree(empty, empty.byte(), torch.zeros(len(weights) + 1, dtype=torch.int64))
    lightest_first = np.argsort(-weights, kind="stable")[::-1]
    children = _joined(weights[lightest_first].tolist())
    return _paths(children, lightest_first)


def _joined(words: list[int]) -> np.ndarray:
    """Children (V - 1, 2) of inner nodes: words by their place, and V + i for inner node i."""
    size = len(words)
    light: list[float] = [*words, np.inf]  # sums stay exact: Python compares int and float so
    made: list[float] = [np.inf] * size
    children = []
    word = inner = 0
    for i in range(size - 1):
        if light[word] < made[inner]:
            first, weight = word, light[word]
            word += 1
        else:
            first, weight = size + inner, made[inner]
            inner += 1
        if light[word] < made[inner]:
            second, weight = word, weight + light[word]
            word += 1
        else:
            second, weight = size + inner, weight + made[inner]
            inner += 1
        made[i] = weight
        children.append((first, second))
    return np.array(children, np.int64)


def _paths(children: np.ndarray, words: np.ndarray) -> HuffmanTree:
    """Paths from children (V - 1, 2), with the word at each place of the queue of words."""
    size = len(words)
    depth = np.zeros(2 * size - 1, np.int64)
    level = np.array([size - 2])  # inner nodes; the root first
    while len(level):
        below = children[level]
        depth[below] = depth[size + level, None] + 1
        level = below[below >= size] - size
    length = np.empty(size, np.int64)
    length[words] = depth[:size]
    offsets = np.concatenate([[0], np.cumsum(length)])

    parent = np.empty(2 * size - 1, np.int64)
    code = np.empty(2 * size - 1, np.uint8)
    parent[children] = np.arange(size - 1)[:, None]
    code[children] = np.array([0, 1], np.uint8)
    paths = np.empty(offsets[-1], np.int32)
    codes = np.empty(offsets[-1], np.uint8)
    node = np.arange(size)  # of all words at once, from the leaves up
    place = offsets[words + 1] - 1
    while len(node):
        above = parent[node]
        paths[place], codes[place] = above, code[node]
        inside = above != size - 2
        node, place = above[inside] + size, place[inside] - 1
    return HuffmanTree(*map(torch.from_numpy, (paths, codes, offsets)))
