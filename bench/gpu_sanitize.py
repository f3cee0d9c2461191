"""Run every op once, forward and backward, on small sizes: what compute-sanitizer looks at.

    compute-sanitizer --tool memcheck python bench/gpu_sanitize.py

Each cell, dtype and recurrent kernel, all options between them, token ids, the losses of logits and
of a linear layer, draws of classes, and the training of word vectors. Prints how many of the runs
were made in the time given, the plainest first.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

import seqkern
from seqkern.functional import (
    cbow_negative_sampling_loss,
    cross_entropy,
    embedding_dot,
    linear_cross_entropy,
    negative_sampling_loss,
    recurrent,
)
from seqkern.nn import UnigramSampler
from seqkern.vectors import Word2Vec

T, N, D, H = 3, 5, 9, 40
GATES = {
    "lstm": 4,
    "gru": 3,
    "rnn_tanh": 1,
    "rnn_relu": 1,
    "lstm_peephole": 4,
    "gru_reset_before": 3,
    "mgu": 2,
}
DTYPES = {
    "cuda": (torch.float32, torch.bfloat16, torch.float16, torch.float64),
    "cpu": (torch.float32, torch.bfloat16, torch.float64),
}
CLASSES = (33, 10_000)  # rows that are not aligned, and that are
MOST_CLASSES = 60_000  # of rows that do not fit shared memory
KERNELS = ("steps", "grid", "cluster")

Work = Callable[[], Tensor]


def backward(output: Tensor, leaves: list[Tensor]) -> None:
    """Compute the gradients of all leaves."""
    torch.autograd.grad(output.float().square().sum(), leaves)


def layer(cell: str, dtype: torch.dtype, option: str = "", hidden: int = H) -> None:
    """Run a layer with one option."""
    gates = GATES[cell] * hidden
    state = 24 if option == "projection" else hidden
    heads = option == "heads"

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype).mul_(0.3).requires_grad_()

    weights = {"weight_hh": leaf(2, gates, state) if heads else leaf(gates, state)}
    if heads:
        x = leaf(T, N, 2 * gates)
    else:
        weights["weight_ih"] = leaf(gates, D)
        x = torch.randint(D, (T, N)) if option == "tokens" else leaf(T, N, D)
    width = 2 if heads else 1
    weights |= {f"bias_{part}": leaf(width * gates) for part in ("ih", "hh")}
    weights["h_0"] = leaf(N, width * state)
    if cell.startswith("lstm"):
        weights["c_0"] = leaf(N, width * hidden)
    if cell == "lstm_peephole":
        weights["weight_cell"] = leaf(3, width * hidden)
    if option == "projection":
        weights["weight_hr"] = leaf(state, hidden)
    if option == "norm":
        weights |= {"norm_hh": leaf(gates), "norm_c": leaf(hidden), "norm_c_bias": leaf(hidden)}
    others: Mapping[str, Mapping[str, object]] = {
        "lengths": {"lengths": torch.arange(N) % (T + 1)},
        "resets": {"resets": torch.rand(T, N) < 0.3, "reset_to_initial": True},
        "mask": {"recurrent_mask": torch.rand(N, hidden).round().to(dtype)},
        "zoneout": {"zoneout_h": torch.rand(T, N, hidden).round().to(dtype)},
        "reverse": {"reverse": True},
        "recompute": {"recompute": 2},
    }
    result = recurrent(cell, x, **weights, **others.get(option, {}))
    inputs = [x] if x.is_floating_point() else []
    backward(result.output, [*inputs, *weights.values()])
    with torch.no_grad():
        recurrent(cell, x, **weights, **others.get(option, {}))


LOSSES: Mapping[str, Mapping[str, object]] = {
    "plain": {},
    "options": {"label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 20.0, "temperature": 0.7},
    "probabilities": {},
    "statistics": {"statistics": True},
    "positions": {"reduction": "none"},
}


def total(found: Any) -> Tensor:
    """Return the loss with all statistics that have a gradient."""
    if isinstance(found, Tensor):
        return found
    of_rows, statistics = found
    parts = (of_rows, statistics.log_probability, statistics.logsumexp, statistics.entropy)
    return torch.stack([part.sum() for part in parts])


def loss(dtype: torch.dtype, form: str, classes: int) -> None:
    """Run the loss of logits, aligned and not, and that of a linear layer, a few rows at a time."""
    options: dict[str, Any] = {"ignore_index": -1, **LOSSES[form]}
    target = torch.randint(-1, classes, (T, N))
    if form == "probabilities":
        target = torch.rand(T, N, classes).softmax(-1).to(dtype)
    weight = torch.rand(classes) if form == "options" else None
    elements = T * N * classes
    for start in (0, 1):
        memory = torch.randn(start + elements, dtype=dtype)
        logits = memory[start:].view(T, N, classes).requires_grad_()
        backward(total(cross_entropy(logits, target, weight, **options)), [logits])
    with torch.no_grad():
        cross_entropy(logits, target, weight, **options)

    leaves = [torch.randn(*shape, dtype=dtype) for shape in ((T, N, D), (classes, D), (classes,))]
    hidden, rows, bias = (leaf.mul_(0.3).requires_grad_() for leaf in leaves)
    options["class_weight"] = weight
    for workspace in (None, 4 * classes * dtype.itemsize):
        found = linear_cross_entropy(hidden, rows, target, bias, workspace=workspace, **options)
        backward(total(found), [hidden, rows, bias])
    with torch.no_grad():
        linear_cross_entropy(hidden, rows, target, bias, **options)


def negatives(classes: int, count: int) -> None:
    """Draw negatives of both kinds; class 0 holds nearly all weight."""
    sampler = UnigramSampler(1 / torch.arange(1.0, classes + 1), power=9)
    target = torch.randint(-1, classes, (T, N, 30))
    for distinct in (True, False):
        sampler.negatives(target, count, distinct=distinct)


def word_vectors(device: str, **options: Any) -> None:
    """Train on sentences of random words."""
    words = torch.randint(WORDS, (40, 20), device="cpu").tolist()
    text = [[f"w{word}" for word in sentence] for sentence in words]
    with torch.device("cpu"):  # where the generators of initial vectors are
        Word2Vec(text, min_count=1, epochs=1, sample=1e-2, **options, device=device)


WORDS = 70
WORD_VECTORS: Mapping[str, Mapping[str, object]] = {
    "skip-gram": {"sg": True},
    "shared negatives": {"sg": True, "shared_negatives": True},
    "CBOW": {},
    "path": {"sg": True, "hs": True},
    "CBOW, path": {"hs": True},
    "n-grams": {"sg": True, "bucket": 50},
    "CBOW, n-grams": {"bucket": 50},
    "long windows": {"sg": True, "window": 40, "negative": 70},
}
DRAWS = ((3, 2), (100, 5), (100, 60), (10_000, 7))  # classes, and how many of them


def sampling(dtype: torch.dtype, sparse: bool) -> None:
    """Run the loss of negative sampling, of hidden states and of contexts, and dots."""
    words, features = 50, 33
    weight, embedding, hidden = (
        torch.randn(rows, features, dtype=dtype).requires_grad_() for rows in (words, 40, N * T)
    )
    target, negatives = torch.randint(words, (N * T,)), torch.randint(words, (N * T, 5))
    contexts = torch.randint(-1, 40, (N * T, 4))
    for reduction in ("mean", "none"):
        options: dict[str, Any] = {"reduction": reduction, "sparse": sparse}
        found = negative_sampling_loss(hidden, weight, target, negatives, **options)
        backward(found, [hidden, weight])
        found = cbow_negative_sampling_loss(
            *(embedding, weight, contexts, target, negatives), **options
        )
        backward(found, [embedding, weight])
    backward(embedding_dot(hidden, weight, negatives, sparse=sparse), [hidden, weight])


OPTIONS = (
    "lengths",
    "resets",
    "mask",
    "zoneout",
    "reverse",
    "recompute",
    "tokens",
    "projection",
    "norm",
    "heads",
)


def works(device: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield all runs by name, the plainest first."""
    dtypes = DTYPES[device]
    for name in KERNELS:
        for dtype in dtypes:
            for cell in GATES:
                yield f"{cell} {dtype} {name}", partial(chosen, name, cell, dtype)
    for classes in CLASSES:
        for form in LOSSES:
            for dtype in dtypes:
                yield f"loss {form} {classes} {dtype}", partial(loss, dtype, form, classes)
    for classes, count in DRAWS:
        yield f"negatives V={classes} K={count}", partial(negatives, classes, count)
    for dtype in dtypes:
        for sparse in (False, True):
            yield f"negative sampling {dtype} {sparse}", partial(sampling, dtype, sparse)
    for form, arguments in WORD_VECTORS.items():
        for size in (20, 200, 300, 500):
            run = partial(word_vectors, device, vector_size=size, **arguments)
            yield f"word vectors {form} d={size}", run
    for option in OPTIONS:
        for dtype in dtypes[:2]:
            for cell in ("lstm",) if option in ("projection", "norm") else ("lstm", "gru"):
                yield f"{cell} {option} {dtype}", partial(layer, cell, dtype, option)
    for hidden in (1, 31, 129, 256):
        yield f"lstm H={hidden}", partial(layer, "lstm", dtypes[1], hidden=hidden)
    for form in ("plain", "options"):
        for dtype in dtypes:
            yield f"loss {form} {MOST_CLASSES} {dtype}", partial(loss, dtype, form, MOST_CLASSES)


def chosen(name: str, cell: str, dtype: torch.dtype) -> None:
    """Run a layer on a recurrent kernel, unless the device cannot."""
    with seqkern.cuda.recurrent_kernel(name):
        try:
            layer(cell, dtype)
        except RuntimeError as error:
            if "cannot run" not in str(error):
                raise
            print(f"not run: {error}")


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin nothing after these")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    runs, done = list(works(options.device)), 0
    with torch.device(options.device):
        for name, run in runs:
            if time.monotonic() > end:
                break
            print(name, flush=True)
            run()
            if options.device == "cuda":
                torch.cuda.synchronize()
            done += 1
    print(f"ran {done} of {len(runs)}")


if __name__ == "__main__":
    main()
