"""One process of test_word_vectors.py: trains every case on the instruction set of SEQKERN_ISA.

Usage: word_vector_worker.py FILE, where the matrices and totals of each case are written.
"""

import sys

import torch

import seqkern
from word_vector_cases import ALL


def main(path: str) -> None:
    """Train every case."""
    trained = [case.draw().train() for case in ALL]
    found = [(of.input, of.output, of.totals) for of in trained]
    torch.save({"isa": seqkern.build_info()["isa"], "trained": found}, path)


if __name__ == "__main__":
    main(sys.argv[1])
