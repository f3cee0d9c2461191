"""Sampling tokens from a language model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import overload

import torch

from seqkern.models.layers import evaluating
from seqkern.models.sampling import check_sampling, draw

Generators = torch.Generator | Sequence[torch.Generator] | None


@overload
def generate(
    model: torch.nn.Module,
    prompt: Sequence[int],
    length: int,
    *,
    temperature: float = ...,
    top_k: int | None = ...,
    top_p: float | None = ...,
    skip: Collection[int] = ...,
    stop: int | None = ...,
    generator: torch.Generator | None = ...,
) -> list[int]: ...


@overload
def generate(
    model: torch.nn.Module,
    prompt: Sequence[Sequence[int]],
    length: int,
    *,
    temperature: float = ...,
    top_k: int | None = ...,
    top_p: float | None = ...,
    skip: Collection[int] = ...,
    stop: int | None = ...,
    generator: Generators = ...,
) -> list[list[int]]: ...


def generate(
    model: torch.nn.Module,
    prompt: Sequence[int] | Sequence[Sequence[int]],
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    skip: Collection[int] = (),
    stop: int | None = None,
    generator: Generators = None,
) -> list[int] | list[list[int]]:
    """Continue a prompt, or several at once, one token at a time, the recurrent state carried.

    Parameters
    ----------
    model : torch.nn.Module
        Any whose forward takes tokens (T, N), int64, and a state (None at first), and returns
        logits (T, N, V) and the state to carry on. Used in evaluation mode; its training mode is
        restored.
    prompt : sequence of int, or of sequences of int
        At least one token id; or N prompts, whose lengths may differ. N samples of one prompt are
        ``[prompt] * N``.
    length : int
        Tokens to generate.
    temperature : float
        Divides the logits; 0 takes the most probable token.
    top_k : int, optional
        Sample from the k most probable tokens only.
    top_p : float, optional
        Sample from the nucleus only: the fewest most probable tokens whose probabilities, those at
        the temperature and among the top k, sum to p or more (Holtzman et al., "The Curious Case of
        Neural Text Degeneration", 2019).
    skip : collection of int
        Ids never to generate.
    stop : int, optional
        The id that ends a text, as its last token.
    generator : torch.Generator, or a sequence of them, optional
        A CPU generator, for samples that repeat on any device. With several prompts: one for all,
        or one each, for texts that do not depend on which prompts stand beside them.

    Returns
    -------
    list of int, or of lists of int
        The new ids, without the prompt: `length` of them, or fewer up to `stop`. A list for each
        prompt where there are several.

    Raises
    ------
    ValueError
        If a prompt is empty, `length` or `temperature` negative, `top_k` below 1, `top_p` outside
        (0, 1], every id skipped, or there are not as many generators as prompts.
    IndexError
        If `skip` or `stop` names no id of the vocabulary.

    Examples
    --------
    >>> from seqkern.models import Rnnlm
    >>> model = Rnnlm(vocab_size=50)
    >>> ids = generate(model, [3], 8, skip=[0, 1], generator=torch.Generator().manual_seed(0))
    >>> len(ids), 0 in ids
    (8, False)
    >>> [len(ids) for ids in generate(model, [[3], [4, 2, 1]], 8, top_p=0.9)]
    [8, 8]
    """
    batched = len(prompt) > 0 and isinstance(prompt[0], Sequence)
    prompts: list[list[int]] = [list(each) for each in (prompt if batched else [prompt])]  # type: ignore[arg-type]
    if not all(prompts):
        raise ValueError("prompt must hold at least one token, got none")
    if length < 0:
        raise ValueError(f"length must be at least 0, got {length}")
    check_sampling(temperature, top_k, top_p)
    generators = list(generator) if isinstance(generator, Sequence) else [generator] * len(prompts)
    if len(generators) != len(prompts):
        raise ValueError(
            f"generator must be one, or one for each of {len(prompts)} prompts, "
            f"got {len(generators)}"
        )
    skipped = sorted(set(skip))
    texts = [list(each) for each in prompts]

    def ended(row: int) -> bool:
        new = len(texts[row]) - len(prompts[row])
        return new == length or (new > 0 and texts[row][-1] == stop)

    device = next(model.parameters()).device
    # Tokens of every text that the model has read. Longer prompts are read on while shorter ones
    # are continued; a text that has ended is fed its last token, to no effect.
    position = min(map(len, texts))
    tokens = torch.tensor([text[:position] for text in texts], device=device).t()
    state = None
    with evaluating(model):
        while not all(map(ended, range(len(texts)))):
            logits, state = model(tokens, state)
            due = [row for row, t in enumerate(texts) if len(t) == position and not ended(row)]
            if due:
                last = logits[-1, due].float().cpu()
                _check_ids(skipped, stop, last.shape[1])
                last[:, skipped] = -torch.inf
                drawing = [generators[row] for row in due]
                chosen = draw(last, temperature, top_k, top_p, drawing)
                for row, token in zip(due, chosen.tolist(), strict=True):
                    texts[row].append(token)
            tokens = torch.tensor([[t[min(position, len(t) - 1)] for t in texts]], device=device)
            position += 1
    found = [text[len(each) :] for text, each in zip(texts, prompts, strict=True)]
    return found if batched else found[0]


def _check_ids(skipped: list[int], stop: int | None, vocab_size: int) -> None:
    for name, ids in (("skip", skipped), ("stop", [] if stop is None else [stop])):
        for each in ids:
            if not 0 <= each < vocab_size:
                raise IndexError(f"{name} must be an id in [0, {vocab_size}), got {each}")
    if len(skipped) == vocab_size:
        raise ValueError(f"skip must leave a token to generate, got all {vocab_size}")
