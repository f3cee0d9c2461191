"""Training of word vectors: skip-gram and CBOW, negative sampling and hierarchical softmax.

An *example* is a vector h and some rows o_r of the output matrix with labels y_r, 0 or 1::

    p_r  = sigmoid(o_r . h)
    loss = -sum_r [y_r log p_r + (1 - y_r) log(1 - p_r)]
    g_r  = y_r - p_r                      = -dloss / d(o_r . h)
    o_r += rate g_r h                     a step against dloss / do_r = -g_r h
    h   += rate sum_r g_r o_r             a step against dloss / dh

- Skip-gram: a word has an example for each word of its context, whose row of the input matrix is h.
- CBOW: a word has one example, whose h is the mean (or sum) of the rows of all context words.
- Negative sampling: the output rows are the word's, y = 1, and those of some words drawn, y = 0.
- Hierarchical softmax: the output rows are the inner nodes on the way to the word in a binary tree,
  and y says which way it goes on.

What is drawn is a function of the seed, the epoch and the place in the text (`philox`), so that no
result depends on how the text is cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import require_rank

Floats = NDArray[Any]  # float64; float32 to see what rounding does
Words32 = NDArray[np.uint64]  # numbers below 2^32

CHOICES = 2**32 - 1  # the block of random numbers that holds a word's choices
CHUNK = 2048  # places that are taken at a time
BAGS = 4  # examples of CBOW of a chunk that are taken together
ROUND = 64  # places that are taken together in deterministic training


def philox(key: int, counter: Words32) -> Words32:
    """Philox4x32-10: four random words of 32 bits for each counter of four.

    Parameters
    ----------
    key : int
        64 bits.
    counter : array (..., 4), numbers below 2^32

    Returns
    -------
    array (..., 4), uint64
        Numbers below 2^32.

    Notes
    -----
    Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import philox
    >>> [f"{word:08x}" for word in philox(0, np.zeros(4, np.uint64))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    key_0, key_1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    x_0, x_1, x_2, x_3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    for _ in range(10):
        product_0, product_2 = np.uint64(0xD2511F53) * x_0, np.uint64(0xCD9E8D57) * x_2
        x_0, x_2 = (
            (product_2 >> half) ^ x_1 ^ np.uint64(key_0),
            (product_0 >> half) ^ x_3 ^ np.uint64(key_1),
        )
        x_1, x_3 = product_2 & mask, product_0 & mask
        key_0, key_1 = (key_0 + 0x9E3779B9) & 0xFFFFFFFF, (key_1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([x_0, x_1, x_2, x_3], -1)


def draw_alias(table: NDArray[Any], random: int) -> int:
    """Draw a class by Walker's alias method, in whole numbers.

    Parameters
    ----------
    table : array (V, 2)
        Of V equally likely buckets, the share that is the bucket's own class's, in 2^-32, and whose
        the rest is.
    random : int
        64 bits.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import draw_alias
    >>> table = np.array([[2**31, 1], [2**32 - 1, 1]])  # probabilities 1/4 and 3/4
    >>> [draw_alias(table, eighth * 2**61) for eighth in range(8)]
    [0, 0, 1, 1, 1, 1, 1, 1]
    """
    scaled = random * len(table)  # bucket and fraction, with the binary point before 64 bits
    bucket, fraction = scaled >> 64, scaled >> 32 & 0xFFFFFFFF
    share, alias = int(table[bucket][0]), int(table[bucket][1])
    return bucket if fraction < share else alias


@dataclass
class Example:
    """A vector h, and the output rows that are to tell about it."""

    inputs: list[int]  # the rows that h is the mean or sum of
    outputs: list[int]
    labels: list[float]
    rate: float


@dataclass
class WordVectors:
    """Word vectors in training.

    Parameters
    ----------
    input : array (V or more, D), changed in place
        With subwords, rows of words and then of n-grams.
    output : array (V, D); with `paths`, (V - 1, D), changed in place
    cbow : bool
        Else skip-gram.
    window : int
        The most words to either side that are context.
    shrink_windows : bool
        Each word draws its own window, uniformly from 1 to `window`.
    keep : array (V,), optional
        Word w stays in the text with probability (keep[w] + 1) / 2^32. What does not stay is no
        word, and no context: its neighbours are closer to each other.
    mean : bool
        h is the mean of its rows, else their sum.
    exact : bool
        A mean's rows each get 1 / n of what h gets, as the gradient has it. Else they get all of
        it, which is what word2vec does.
    subwords : list of lists, optional
        The input rows that each word stands for; else its own.
    negatives : int
        K: draws for an example. Those that hit the word itself are left out.
    shared : bool
        Skip-gram: one set of draws for all examples of a word.
    noise : array (V, 2), optional
        What negatives are drawn from (`draw_alias`). Negative sampling needs it.
    paths : list of lists of (node, label), optional
        The way to each word, which hierarchical softmax needs.
    rate, rate_step : float
        The learning rate at a place is ``rate + place * rate_step``.
    seed, epoch : int
    deterministic : bool
        The order of changes that allows for threads, see Notes.

    Attributes
    ----------
    loss : float
    examples, words : int
        Sums over all calls of `train`; words that stayed in the text.

    Notes
    -----
    Mikolov, Sutskever, Chen, Corrado and Dean, "Distributed representations of words and phrases
    and their compositionality", 2013. Subwords: Bojanowski, Grave, Joulin and Mikolov, "Enriching
    word vectors with subword information", 2017.

    Examples are taken in groups: all g of a group come from the same matrices, then the group's
    examples change them one by one, and of an example, the output rows one by one. Where an h is a
    row, and not made of several, it is the row as the examples before have left it. A group is the
    examples of a word (skip-gram), or four examples of CBOW in a row, counted anew in each batch: a
    chunk of text has 2048 places, and a batch of it 64 of the words that stay and sentence ends (or
    8192 / K, if that is less).

    In deterministic training, a group is the examples of 64 places, none of which sees any change
    of the others: every change comes from the same matrices, and all are added at the end.

    Examples
    --------
    Two words that always follow each other. Negatives are mostly the other of the two:

    >>> import numpy as np
    >>> from reference import WordVectors
    >>> rows = np.array([[0.1, 0.2], [0.3, -0.1]])
    >>> noise = np.array([[2**32 - 1, 0], [2**32 - 1, 1]])
    >>> vectors = WordVectors(rows, np.zeros((2, 2)), window=1, negatives=2, noise=noise, rate=0.5)
    >>> text = np.array([0, 1] * 50)
    >>> vectors.train(text, 0, 10)
    >>> early, vectors.loss, vectors.examples = vectors.loss / vectors.examples, 0.0, 0
    >>> vectors.train(text, 90, 100)
    >>> bool(vectors.loss / vectors.examples < early)
    True
    """

    input: Floats
    output: Floats
    cbow: bool = False
    window: int = 5
    shrink_windows: bool = False
    keep: NDArray[Any] | None = None
    mean: bool = True
    exact: bool = True
    subwords: list[list[int]] | None = None
    negatives: int = 5
    shared: bool = False
    noise: NDArray[Any] | None = None
    paths: list[list[tuple[int, float]]] | None = None
    rate: float = 0.025
    rate_step: float = 0.0
    seed: int = 1
    epoch: int = 0
    deterministic: bool = False
    loss: float = field(default=0.0, init=False)
    examples: int = field(default=0, init=False)
    words: int = field(default=0, init=False)
    _choices: list[list[int]] = field(default_factory=list, init=False, repr=False)  # of places

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            require_rank(name, getattr(self, name), "V, D")
        if (self.noise is None) == (self.paths is None):
            raise ValueError("noise and paths: expected one of the two")

    def train(self, ids: NDArray[Any], begin: int, end: int) -> None:
        """Train on the words at the places [begin, end) of a text.

        Parameters
        ----------
        ids : array (length,)
            Words, with -1 after each sentence.
        begin, end : int
            Context may reach beyond them.
        """
        self._choices = self._random([(place, CHOICES) for place in range(len(ids))])
        for group in self._groups(ids.tolist(), begin, end):
            self.examples += len(group)
            if self.deterministic:
                self._change_together(group)
            else:
                self._change_one_by_one(group)

    # The text

    def _groups(self, ids: list[int], begin: int, end: int) -> Iterator[list[Example]]:
        if self.deterministic:
            for first in range(begin, end, ROUND):
                places = range(first, min(first + ROUND, end))
                yield [example for place in places for example in self._examples(ids, place)]
            return
        for first in range(begin, end, CHUNK):
            places = range(first, min(first + CHUNK, end))
            of_words = [self._examples(ids, place) for place in places if ids[place] >= 0]
            if not self.cbow:
                yield from filter(None, of_words)
                continue
            bags = [example for found in of_words for example in found]
            for at in range(0, len(bags), BAGS):
                yield bags[at : at + BAGS]

    def _examples(self, ids: list[int], place: int) -> list[Example]:
        """The examples of the word at a place; none if it does not stay, or has no context."""
        word = ids[place]
        if word < 0 or not self._stays(ids, place):
            return []
        self.words += 1
        context = [ids[other] for other in self._context(ids, place)]
        if not context:
            return []
        rate = self.rate + place * self.rate_step
        bags = [context] if self.cbow else [[other] for other in context]
        drawn = self._draws(place, self._draws_of(len(context)))
        examples = []
        for number, bag in enumerate(bags):
            inputs = [row for other in bag for row in self._rows(other)]
            if self.paths is not None:
                outputs = self.paths[word]
            else:
                start = 0 if self.shared else number * self.negatives
                negatives = drawn[start : start + self.negatives]
                outputs = [(row, 0.0) for row in negatives if row != word] + [(word, 1.0)]
            rows, labels = [row for row, _ in outputs], [label for _, label in outputs]
            examples.append(Example(inputs, rows, labels, rate))
        return examples

    def _rows(self, word: int) -> list[int]:
        return [word] if self.subwords is None else self.subwords[word]

    def _context(self, ids: list[int], place: int) -> list[int]:
        """The places of the context, in the order of the text."""
        window = self.window
        if self.shrink_windows:
            window = 1 + (self._choices[place][1] * self.window >> 32)
        found: list[list[int]] = []
        for direction in (-1, 1):
            side: list[int] = []
            other = place + direction
            while len(side) < window and 0 <= other < len(ids) and ids[other] >= 0:
                if self._stays(ids, other):
                    side.append(other)
                other += direction
            found.append(side)
        before, after = found
        return before[::-1] + after

    def _stays(self, ids: list[int], place: int) -> bool:
        if self.keep is None:
            return True
        return self._choices[place][0] <= int(self.keep[ids[place]])

    # Random numbers

    def _draws_of(self, contexts: int) -> int:
        """How many negatives a word with this many context words draws."""
        if self.noise is None:
            return 0
        once = self.cbow or self.shared
        return self.negatives * (1 if once else contexts)

    def _draws(self, place: int, count: int) -> list[int]:
        """Negatives: a block of random words gives two numbers of 64 bits, so two draws."""
        if self.noise is None:
            return []
        blocks = self._random([(place, block) for block in range((count + 1) // 2)])
        numbers = [low | high << 32 for a, b, c, d in blocks for low, high in ((a, b), (c, d))]
        return [draw_alias(self.noise, number) for number in numbers[:count]]

    def _random(self, blocks: list[tuple[int, int]]) -> list[list[int]]:
        """Four random words for each pair of a place and the number of a block.

        Of the block CHOICES, the first says whether the word stays, the second how large its window
        is. The blocks from 0 on are negatives.
        """
        counters = [[place & 0xFFFFFFFF, place >> 32, self.epoch, block] for place, block in blocks]
        array = np.array(counters, np.uint64).reshape(-1, 4)
        return philox(self.seed % 2**64, array).tolist()  # type: ignore[no-any-return]

    # The numbers

    def _hidden(self, example: Example) -> Floats:
        """Return h; a view of the row where it is one."""
        if len(example.inputs) == 1:
            return self.input[example.inputs[0]]
        total = np.zeros_like(self.input[0])
        for row in example.inputs:
            total += self.input[row]
        return total / len(example.inputs) if self.mean else total

    def _input_scale(self, example: Example) -> float:
        """What h's change is multiplied by, for each of its rows."""
        return 1.0 / len(example.inputs) if self.mean and self.exact else 1.0

    def _steps(self, example: Example, h: Floats) -> list[float]:
        """Rate times g for each output row; adds to the loss."""
        found = []
        for row, y in zip(example.outputs, example.labels, strict=True):
            x = self.output[row] @ h
            e = np.exp(-abs(x))  # at most 1: no overflow
            p = 1 / (1 + e) if x >= 0 else e / (1 + e)
            self.loss += float(max(x, 0.0) - y * x + np.log1p(e))
            found.append(h.dtype.type(example.rate) * (y - p))
        return found

    def _change_one_by_one(self, group: list[Example]) -> None:
        hidden = [self._hidden(example) for example in group]
        steps = [self._steps(example, h) for example, h in zip(group, hidden, strict=True)]
        for example, h, steps_of_rows in zip(group, hidden, steps, strict=True):
            change = np.zeros_like(h)
            for row, step in zip(example.outputs, steps_of_rows, strict=True):
                change += step * self.output[row]
                self.output[row] += step * h
            for row in example.inputs:
                self.input[row] += self._input_scale(example) * change

    def _change_together(self, group: list[Example]) -> None:
        output_before = self.output.copy()
        changes = []
        for example in group:
            h = self._hidden(example)
            changes.append((example, h.copy(), self._steps(example, h)))
        for example, h, steps in changes:
            for row, step in zip(example.outputs, steps, strict=True):
                self.output[row] += step * h
        for example, _, steps in changes:
            change = np.zeros_like(self.input[0])
            for row, step in zip(example.outputs, steps, strict=True):
                change += step * output_before[row]
            for row in example.inputs:
                self.input[row] += self._input_scale(example) * change
