"""Numbers of character n-grams against plain loops, and against gensim where it is installed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import examples
from seqkern.vectors import ngram_hash, ngrams, subword_table, subwords

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

words = st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=9), max_size=9)


def by_loops(word: str, min_n: int, max_n: int) -> list[str]:
    marked, found = f"<{word}>", []
    for start in range(len(marked)):
        for n in range(min_n, max_n + 1):
            ngram = marked[start : start + n]
            if len(ngram) == n and not (n == 1 and start in (0, len(marked) - 1)):
                found.append(ngram)
    return found


@given(words, st.integers(1, 4), st.integers(0, 7), st.integers(1, 2**31 - 100))
@examples(200)
def test_table_is_that_of_each_word(some: list[str], min_n: int, max_n: int, bucket: int) -> None:
    ids, offsets = subword_table(some, min_n, max_n, bucket)
    assert (ids.dtype, offsets.dtype) == (torch.int32, torch.int64)
    assert offsets[0] == 0
    assert offsets[-1] == len(ids)
    for i, word in enumerate(some):
        assert ngrams(word, min_n, max_n) == by_loops(word, min_n, max_n)
        hashes = [ngram_hash(ngram) for ngram in by_loops(word, min_n, max_n)]
        expected = [i, *(len(some) + value % bucket for value in hashes)]
        assert ids[offsets[i] : offsets[i + 1]].tolist() == expected


def test_parts_of_a_vocabulary_join(monkeypatch: pytest.MonkeyPatch) -> None:
    some = ["eins", "zwei", "drei", "vier", "fünf"]
    whole = subword_table(some)
    monkeypatch.setattr(subwords, "_WORDS", 2)
    parts = subword_table(some)
    assert all(torch.equal(part, of_whole) for part, of_whole in zip(parts, whole, strict=True))


@given(words, st.integers(1, 4), st.integers(1, 7))
@examples(100)
def test_ngrams_and_hashes_equal_gensims(some: list[str], min_n: int, max_n: int) -> None:
    inner = pytest.importorskip("gensim.models.fasttext_inner")
    for word in some:
        ours = [ngram.encode() for ngram in ngrams(word, min_n, max_n)]
        assert ours == list(inner.compute_ngrams_bytes(word, min_n, max_n))
        for ngram in ours:
            assert ngram_hash(ngram.decode()) == inner.ft_hash_bytes(ngram)


def test_bad_sizes_are_refused() -> None:
    for min_n, max_n in ((0, 3), (1, -1)):
        for call in (lambda: ngrams("a", min_n, max_n), lambda: subword_table(["a"], min_n, max_n)):  # noqa: B023
            with pytest.raises(ValueError, match=f"min_n, max_n are {min_n}, {max_n}"):
                call()
    with pytest.raises(ValueError, match="bucket is 0, expected at least 1"):
        subword_table(["a"], bucket=0)
    with pytest.raises(ValueError, match="2,147,483,648 are beyond int32"):
        subword_table(["a"], bucket=1 << 31)
