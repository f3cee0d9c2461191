"""The work of the word-vector benchmarks, as cases: a slice of training, on a device or on the CPU.

Words are drawn independently, with Zipf's frequencies as subsampling leaves them, in sentences of a
thousand; all stay.
"""

from collections.abc import Mapping
from functools import partial

import torch
from case import Case, Run

from seqkern.vectors._trainable import Objective, Trainable

Sizes = Mapping[str, int]

CPU = "cpu"  # the peer
KINDS: Mapping[str, Mapping[str, bool]] = {
    "skip-gram": {"sg": True},
    "skip-gram, shared negatives": {"sg": True, "shared_negatives": True},
    "CBOW": {"sg": False},
}
WINDOW, NEGATIVES, SENTENCE, SAMPLE = 5, 5, 1000, 1e-3
CONTEXT = WINDOW + 1  # words, on average


def rows_of_word(kind: str) -> int:
    """Return how many rows are read or written for a word, on average, where none is kept."""
    outputs = NEGATIVES + 1
    return 2 * (CONTEXT * (1 + outputs) if kind == "skip-gram" else CONTEXT + outputs)


def make_training(peer: str, kind: str, sizes: Sizes) -> Run:
    """Make a call that trains on all words."""
    classes = sizes["V"]
    device = torch.device("cpu") if peer == CPU else torch.empty(0).device
    with torch.device("cpu"):
        counts = (1e9 / torch.arange(1, classes + 1)).long()
        generator = torch.Generator().manual_seed(0)
        share = SAMPLE * counts.sum() / counts
        weights = (counts * (share.sqrt() + share).clamp(max=1)).float()
        ids = torch.multinomial(weights, sizes["words"], replacement=True, generator=generator)
        ids = ids.int()
        ids[SENTENCE - 1 :: SENTENCE] = -1
        plain = {"sg": True, "shared_negatives": False, **KINDS[kind]}
        objective = Objective(
            vector_size=sizes["d"],
            window=WINDOW,
            shrink_windows=True,
            hs=False,
            negative=NEGATIVES,
            ns_exponent=0.75,
            sample=0.99,  # all stay, but looked at they are
            cbow_mean=True,
            cbow_update="word2vec",
            min_n=0,
            max_n=0,
            bucket=0,
            seed=1,
            **plain,
        )
        trainable = Trainable(objective, [""] * classes, counts, device)
    ids = ids.to(device)

    def train() -> None:
        if peer == CPU and torch.cuda.is_available():
            torch.cuda.synchronize()  # so that events on the device are no earlier than the call
        trainable.train(
            ids,
            0,
            len(ids),
            rate=0.025,
            rate_step=0.0,
            epoch=0,
            workers=0,
            deterministic=False,
        )

    return train


def training_case(kind: str, words: int, classes: int, size: int) -> Case:
    """Training on so many words, on the device beside the CPU; rows: moved for a word."""
    sizes = {"words": words, "V": classes, "d": size, "rows": rows_of_word(kind)}
    make = partial(make_training, kind=kind, sizes=sizes)
    return Case(kind, sizes, make, peers=("seqkern", CPU))
