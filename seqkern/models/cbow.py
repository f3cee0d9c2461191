"""Word2vec through autograd, after "Deep Learning from Scratch 2" (K. Saito), chapters 3 and 4.

CBOW       embedding of the contexts, mean -> output vectors -> loss of the word in the middle
skip-gram  embedding of the word in the middle -> output vectors -> losses of the contexts

The one-hot vectors that the book's chapter 3 multiplies by a matrix are here what they choose: rows
of an embedding. The simple models' loss is the softmax cross-entropy over all words, the others'
that of negative sampling. Parameters start from N(0, 0.01^2), as the book's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqkern import functional, nn
from seqkern.models.pretrained import Pretrained


class _WordVectors(Pretrained):
    """Vectors of V words, and another of each on the side of the output.

    Attributes
    ----------
    embedding : torch.nn.Embedding
        (V, D): the word vectors.
    output : torch.nn.Module
        Its `weight`, (V, D), has the others.
    """

    def __init__(self, vocab_size: int, hidden_size: int, output: torch.nn.Module) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab_size, hidden_size)
        self.output = output
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, std=0.01)

    @property
    def vectors(self) -> Tensor:
        """(V, D): the word vectors, in no graph."""
        return self.embedding.weight.detach()


class SimpleCBOW(_WordVectors):
    """CBOW with the softmax over all words (chapter 3).

    Parameters
    ----------
    vocab_size, hidden_size : int
        V and D.

    Examples
    --------
    >>> model = SimpleCBOW(vocab_size=7, hidden_size=5)
    >>> contexts, target = torch.tensor([[0, 2], [1, 3]]), torch.tensor([1, 2])
    >>> model.logits(contexts).shape, model(contexts, target).shape
    (torch.Size([2, 7]), torch.Size([]))
    """

    output: torch.nn.Linear

    def __init__(self, vocab_size: int, hidden_size: int = 5) -> None:
        linear = torch.nn.Linear(hidden_size, vocab_size, bias=False)
        super().__init__(vocab_size, hidden_size, linear)

    def logits(self, contexts: Tensor) -> Tensor:
        """Logits (B, V) of the words in the middle of contexts (B, C)."""
        return self.output(self.embedding(contexts).mean(1))

    def forward(self, contexts: Tensor, target: Tensor) -> Tensor:
        """Loss of the words in the middle.

        Parameters
        ----------
        contexts : Tensor
            int64, shape (B, C): the words around each.
        target : Tensor
            int64, shape (B,).

        Returns
        -------
        Tensor
            The mean cross-entropy in nats, a scalar.
        """
        hidden = self.embedding(contexts).mean(1)
        return functional.linear_cross_entropy(hidden, self.output.weight, target)


class SimpleSkipGram(_WordVectors):
    """Skip-gram with the softmax over all words (chapter 3).

    Parameters
    ----------
    vocab_size, hidden_size : int
        V and D.

    Examples
    --------
    >>> model = SimpleSkipGram(vocab_size=7, hidden_size=5)
    >>> contexts, target = torch.tensor([[0, 2], [1, 3]]), torch.tensor([1, 2])
    >>> model.logits(target).shape, model(contexts, target).shape
    (torch.Size([2, 7]), torch.Size([]))
    """

    output: torch.nn.Linear

    def __init__(self, vocab_size: int, hidden_size: int = 5) -> None:
        linear = torch.nn.Linear(hidden_size, vocab_size, bias=False)
        super().__init__(vocab_size, hidden_size, linear)

    def logits(self, target: Tensor) -> Tensor:
        """Logits (B, V) of a word near each of the words (B,)."""
        return self.output(self.embedding(target))

    def forward(self, contexts: Tensor, target: Tensor) -> Tensor:
        """Loss of the words around.

        Parameters
        ----------
        contexts : Tensor
            int64, shape (B, C): the words around each.
        target : Tensor
            int64, shape (B,).

        Returns
        -------
        Tensor
            The cross-entropy in nats, summed over C and averaged over B; a scalar.
        """
        loss = functional.linear_cross_entropy(
            self.embedding(target).repeat_interleave(contexts.shape[1], 0),
            self.output.weight,
            contexts.flatten(),
            reduction="sum",
        )
        return loss / max(1, len(target))


class CBOW(_WordVectors):
    """CBOW with negative sampling (chapter 4).

    Parameters
    ----------
    vocab_size, hidden_size : int
        V and D.
    sampler : optional
        Draws the negatives where a call is given none, such as `seqkern.nn.UnigramSampler` of the
        words' counts: as in the book, distinct words other than the target. A folder of
        `save_pretrained` has none.
    num_negatives : int
        K: how many it draws for an example.

    Examples
    --------
    >>> model = CBOW(10, 4, nn.UnigramSampler([5] * 10), num_negatives=3)
    >>> model(torch.tensor([[0, 2], [1, 3]]), torch.tensor([1, 2])).shape
    torch.Size([])
    """

    output: nn.NegativeSamplingLoss
    not_saved = ("sampler",)

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 100,
        sampler: nn.UnigramSampler | None = None,
        num_negatives: int = 5,
    ) -> None:
        loss = nn.NegativeSamplingLoss(vocab_size, hidden_size, sampler, num_negatives)
        super().__init__(vocab_size, hidden_size, loss)

    def forward(
        self,
        contexts: Tensor,
        target: Tensor,
        negatives: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Loss of telling a word from others, by the mean of its context's vectors.

        Parameters
        ----------
        contexts : Tensor
            int64, shape (B, C): the words around.
        target : Tensor
            int64, shape (B,).
        negatives : Tensor, optional
            int64, shape (B, K); default: the sampler's.
        generator : torch.Generator, optional
            Of the sampler's random numbers.

        Returns
        -------
        Tensor
            In nats, summed over the target and its K negatives, averaged over B; a scalar.
        """
        if negatives is None:
            negatives = _draw(self.output, target, generator)
        return functional.cbow_negative_sampling_loss(
            self.embedding.weight, self.output.weight, contexts, target, negatives
        )


class SkipGram(_WordVectors):
    """Skip-gram with negative sampling (chapter 4).

    Parameters
    ----------
    vocab_size, hidden_size, sampler, num_negatives
        As of `CBOW`; K negatives for each word of a context.

    Examples
    --------
    >>> model = SkipGram(10, 4, nn.UnigramSampler([5] * 10), num_negatives=3)
    >>> model(torch.tensor([[0, 2], [1, 3]]), torch.tensor([1, 2])).shape
    torch.Size([])
    """

    output: nn.NegativeSamplingLoss
    not_saved = ("sampler",)

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 100,
        sampler: nn.UnigramSampler | None = None,
        num_negatives: int = 5,
    ) -> None:
        loss = nn.NegativeSamplingLoss(vocab_size, hidden_size, sampler, num_negatives)
        super().__init__(vocab_size, hidden_size, loss)

    def forward(
        self,
        contexts: Tensor,
        target: Tensor,
        negatives: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Loss of telling the words around each word from others, by its vector.

        Parameters
        ----------
        contexts : Tensor
            int64, shape (B, C): the words around each.
        target : Tensor
            int64, shape (B,).
        negatives : Tensor, optional
            int64, shape (B, C, K); default: the sampler's.
        generator : torch.Generator, optional
            Of the sampler's random numbers.

        Returns
        -------
        Tensor
            In nats, summed over C and over the K + 1 of each, averaged over B; a scalar.
        """
        if negatives is None:
            negatives = _draw(self.output, contexts, generator)
        hidden = self.embedding(target).repeat_interleave(contexts.shape[1], 0)
        loss = functional.negative_sampling_loss(
            hidden,
            self.output.weight,
            contexts.flatten(),
            negatives.flatten(0, 1),
            reduction="sum",
        )
        return loss / max(1, len(target))


def _draw(
    loss: nn.NegativeSamplingLoss, target: Tensor, generator: torch.Generator | None
) -> Tensor:
    if loss.sampler is None:
        raise ValueError("negatives is None, expected a tensor where there is no sampler")
    return loss.sampler.negatives(target, loss.num_negatives, generator)


WORD_MODELS: dict[str, type[CBOW] | type[SkipGram]] = {"cbow": CBOW, "skip-gram": SkipGram}
"""Model classes by name."""
