"""One of the processes of test_word2vec.py, started by torchrun.

Usage: word2vec_worker.py FOLDER; rank r writes what it finds to FOLDER/r.pt.
"""

import datetime
import os
import sys
from typing import Any

import torch
import torch.distributed as dist

from seqkern.vectors import Word2Vec

LENGTHS = (1, 2, 3, 9, 99, 100, 101, 199, 1000, 2501)  # words of a text of one sentence
EVERY = 100


def text(length: int) -> torch.Tensor:
    """Draw words of which each is followed by one of a few others."""
    random = torch.Generator().manual_seed(length)
    steps = torch.randint(1, 3, (length,), generator=random)
    return (steps.cumsum(0) % 15).to(torch.int64)


def model(**changed: Any) -> Word2Vec:
    """Return an untrained model with a vocabulary."""
    options = {
        "vector_size": 8,
        "window": 2,
        "min_count": 1,
        "sample": 0,
        "workers": 1,
        "epochs": 2,
    }
    made = Word2Vec(**{**options, **changed})
    made.build_vocab(text(2501))
    return made


def matrices(of: Word2Vec) -> tuple[torch.Tensor, torch.Tensor]:
    """Copy what is trained."""
    assert of.trainable is not None
    return of.trainable.input.clone(), of.trainable.output.clone()


def train(length: int) -> dict[str, Any]:
    """Train on a text of so many words, and count how often matrices are averaged."""
    averaged, all_reduce, reports = 0, dist.all_reduce, []

    def counted(tensor: torch.Tensor) -> None:
        nonlocal averaged
        averaged += tensor.dtype == torch.float32
        all_reduce(tensor)

    dist.all_reduce = counted
    try:
        trained = model()
        loss = trained.train(text(length), average_every=EVERY, callback=reports.append)
    finally:
        dist.all_reduce = all_reduce
    return {
        "matrices": matrices(trained),
        "averaged": averaged,
        "losses": trained.epoch_losses,
        "loss": loss,
        "rates": [report.learning_rate for report in reports],
        "words": [report.words for report in reports],
        "total_words": reports[-1].total_words,
    }


def interrupted(folder: str) -> dict[str, Any]:
    """Interrupt a training, resume it from the first process's checkpoint, and do it at once."""
    whole = model()
    whole.train(text(2501), average_every=EVERY)
    path = f"{folder}/{dist.get_rank()}.safetensors"
    calls = 0

    def interrupt(_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt

    part = model()
    try:
        part.train(text(2501), average_every=EVERY, checkpoint=path, callback=interrupt)
    except KeyboardInterrupt:
        dist.barrier()
    loaded = Word2Vec.load(f"{folder}/0.safetensors")
    loss = loaded.train(text(2501), average_every=EVERY, resume=True)
    return {
        "whole": matrices(whole),
        "resumed": matrices(loaded),
        "losses": (whole.epoch_losses, loaded.epoch_losses),
        "loss": loss,
        "saved": os.path.exists(path),
    }


def main(folder: str) -> None:
    """Train on every text, as one of the processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
    found: dict[Any, Any] = {length: train(length) for length in LENGTHS}
    found["interrupted"] = interrupted(folder)
    many = model(epochs=12, alpha=0.2)
    many.train(text(2501), average_every=EVERY)
    found["epochs"] = many.epoch_losses
    torch.save(found, f"{folder}/{dist.get_rank()}.pt")
    dist.barrier()
    os._exit(0)  # see ddp_worker.py


if __name__ == "__main__":
    main(sys.argv[1])
