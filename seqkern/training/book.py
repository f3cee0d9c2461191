"""Models saved by the code of "Deep Learning from Scratch 2": see `seqkern.models.book`."""

from seqkern.models.book import load_book_arrays, rnnlm_from_book

__all__ = ["load_book_arrays", "rnnlm_from_book"]
