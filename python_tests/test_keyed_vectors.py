"""Keyed vectors against plain loops, and against gensim where it is installed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import seqkern.vectors.similarity as similarity_module
from helpers import examples, generator, normal, strided
from seqkern.vectors import KeyedVectors

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

LEVELS = ("float32", "float64", "bfloat16", "float16")


def random_vectors(size: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    return KeyedVectors([f"w{i}" for i in range(size)], normal((size, dim), dtype, generator(seed)))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return float(a @ b) / length if length else 0.0


def rows(kv: KeyedVectors) -> np.ndarray:
    return kv.vectors.double().numpy()


def ranking(kv: KeyedVectors, query: np.ndarray, without: Sequence[str]) -> list[tuple[str, float]]:
    pairs = [
        (word, cosine(row, query))
        for word, row in zip(kv.words, rows(kv), strict=True)
        if word not in without
    ]
    return sorted(pairs, key=lambda pair: -pair[1])


def assert_same(
    got: list[tuple[str, float]], expected: list[tuple[str, float]], tolerance: float = 1e-6
) -> None:
    assert [word for word, _ in got] == [word for word, _ in expected]
    assert [value for _, value in got] == pytest.approx(
        [value for _, value in expected], abs=tolerance
    )


# Look-up


def test_words_and_indices_give_vectors() -> None:
    kv = random_vectors(5, 3)
    assert len(kv) == 5
    assert list(kv) == kv.index_to_key == kv.words
    assert kv.vector_size == 3
    assert "w4" in kv
    assert "w5" not in kv
    assert kv.get_index("w2") == kv.get_index(2) == kv.get_index(np.int64(2)) == 2
    assert kv.get_index("unseen", default=-1) == -1
    assert torch.equal(kv["w2"], kv.vectors[2])
    assert kv["w2"].data_ptr() == kv.vectors[2].data_ptr()
    assert torch.equal(kv[["w3", 0]], kv.vectors[[3, 0]])
    assert kv[[]].shape == (0, 3)
    torch.testing.assert_close(kv.get_vector("w1", norm=True).norm(), torch.tensor(1.0))
    torch.testing.assert_close(kv.get_normed_vectors().norm(dim=1), torch.ones(5))
    assert repr(kv).startswith("KeyedVectors(5 words, vector_size=3, dtype=torch.float32")


def test_unknown_keys_are_named() -> None:
    kv = random_vectors(5, 3)
    message = "word 'xyz' is not in the vocabulary of 5 words"
    for call in (kv.get_index, kv.get_vector, kv.most_similar, kv.similar_by_word, kv.distances):
        with pytest.raises(KeyError, match=message):
            call("xyz")
    for method in (kv.similarity, kv.distance, kv.rank, kv.closer_than):
        with pytest.raises(KeyError, match=message):
            method("w0", "xyz")
    for call in (lambda: kv.doesnt_match(["w0", "xyz"]), lambda: kv.analogy("w0", "w1", "xyz")):
        with pytest.raises(KeyError, match=message):
            call()
    for index in (-1, 5):
        with pytest.raises(IndexError, match=f"index {index} is outside a vocabulary of 5 words"):
            kv.get_index(index)
    with pytest.raises(TypeError, match="a key is a word or an index, got float"):
        kv.most_similar([1.5])  # type: ignore[list-item]


def test_bad_arguments_of_the_constructor_are_refused() -> None:
    table = torch.zeros(2, 3)
    for shape in ((3, 3), (2,), (2, 0)):
        with pytest.raises(ValueError, match=r"expected \(2, d\) for 2 words"):
            KeyedVectors(["a", "b"], torch.zeros(shape))
    with pytest.raises(ValueError, match="'a' more than once"):
        KeyedVectors(["a", "a"], table)
    with pytest.raises(TypeError, match="floating-point, got torch.int64"):
        KeyedVectors(["a", "b"], table.long())
    with pytest.raises(TypeError, match="must be a Tensor, got ndarray"):
        KeyedVectors(["a", "b"], table.numpy())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="integers, got torch.float32"):
        KeyedVectors(["a", "b"], table, torch.ones(2))
    with pytest.raises(ValueError, match=r"counts has shape \(3,\), expected \(2,\)"):
        KeyedVectors(["a", "b"], table, torch.ones(3, dtype=torch.int64))


def test_added_vectors_leave_the_given_tensor_alone() -> None:
    table = torch.ones(2, 3)
    kv = KeyedVectors(["a", "b"], table, torch.tensor([5, 4]))
    kv.fill_norms()
    kv.add_vectors(["b", "c"], torch.full((2, 3), 2.0), torch.tensor([9, 3]))
    assert kv.words == ["a", "b", "c"]
    assert kv.vectors[:, 0].tolist() == [1, 1, 2]
    assert kv.counts is not None
    assert kv.counts.tolist() == [5, 4, 3]
    torch.testing.assert_close(kv.norms, torch.tensor([1.0, 1.0, 2.0]) * math.sqrt(3))
    kv.add_vectors(["d", "a"], torch.full((2, 3), 7.0), replace=True)
    assert kv.vectors[:, 0].tolist() == [7, 1, 2, 7]
    assert kv.counts.tolist() == [5, 4, 3, 0]
    assert kv.get_index("d") == 3
    assert torch.equal(table, torch.ones(2, 3))
    with pytest.raises(ValueError, match="of size 2, expected 3"):
        kv.add_vectors(["e"], torch.ones(1, 2))
    with pytest.raises(ValueError, match="have none"):
        random_vectors(2, 3).add_vectors(["e"], torch.ones(1, 3), torch.tensor([1]))


def test_norms_follow_changes_of_vectors() -> None:
    kv = random_vectors(4, 3)
    before = kv.norms
    assert kv.norms is before
    kv.vectors *= 2
    torch.testing.assert_close(kv.norms, 2 * before)
    kv.vectors.numpy()[:] *= 2  # not seen by torch
    kv.fill_norms(force=True)
    torch.testing.assert_close(kv.norms, 4 * before)
    with torch.inference_mode():
        kv.vectors = torch.ones(4, 4)
    assert kv.norms.tolist() == [2] * 4


# The nearest


@pytest.mark.parametrize("dtype", LEVELS)
def test_most_similar_equals_plain_loops(dtype: str) -> None:
    kv = random_vectors(300, 7, dtype=getattr(torch, dtype))
    table = rows(kv)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    assert_same(kv.most_similar("w3"), ranking(kv, table[3], ["w3"])[:10])
    assert_same(kv.similar_by_word("w3", topn=2), ranking(kv, table[3], ["w3"])[:2])
    query = 2.0 * unit[1] + unit[4] - unit[5] - 0.5 * unit[9]
    got = kv.most_similar([("w1", 2.0), 4], ["w5", ("w9", -0.5)], topn=4)
    assert_same(got, ranking(kv, query, ["w1", "w4", "w5", "w9"])[:4])
    vector = np.arange(7.0)
    assert_same(kv.similar_by_vector(vector, topn=5), ranking(kv, vector, [])[:5])
    mixed = vector - unit[8]
    got = kv.most_similar([torch.from_numpy(vector)], "w8", topn=3)
    assert_same(got, ranking(kv, mixed, ["w8"])[:3])


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 50), st.integers(1, 45))
@examples(60)
def test_tiles_and_blocks_change_nothing(size: int, dim: int, topn: int, limit: int) -> None:
    kv = random_vectors(size, dim + 1, seed=size * 10 + dim)
    queries = [f"w{i}" for i in range(size)]
    whole = kv.most_similar_batch(queries, topn=topn, restrict_vocab=limit)
    tile, block = similarity_module._TILE, similarity_module._BLOCK
    try:
        similarity_module._TILE, similarity_module._BLOCK = 21, 3
        tiled = kv.most_similar_batch(queries, topn=topn, restrict_vocab=limit)
    finally:
        similarity_module._TILE, similarity_module._BLOCK = tile, block
    for i, (pairs, again) in enumerate(zip(whole, tiled, strict=True)):
        assert_same(again, pairs)
        among = KeyedVectors(kv.words[:limit], kv.vectors[:limit])
        expected = ranking(among, rows(kv)[i], [f"w{i}"])[:topn]
        assert [value for _, value in pairs] == pytest.approx([v for _, v in expected], abs=1e-6)


def test_batch_equals_queries_one_by_one() -> None:
    kv = random_vectors(50, 6)
    positive = ["w1", ["w2", ("w3", 0.5)], kv.vectors[4], 5]
    negative = [None, "w7", [], ["w8", "w9"]]
    got = kv.most_similar_batch(positive, negative, topn=3)
    for p, n, pairs in zip(positive, negative, got, strict=True):
        assert_same(pairs, kv.most_similar(p, n, topn=3))
    by_rows = kv.most_similar_batch(kv.vectors[:6], topn=1)
    assert [pairs[0][0] for pairs in by_rows] == kv.words[:6]
    assert kv.most_similar_batch([]) == []
    with pytest.raises(ValueError, match="are 2 and 1 queries"):
        kv.most_similar_batch(["w1", "w2"], ["w3"])


def test_padded_rows_and_half_types_are_read_where_they_are() -> None:
    whole = random_vectors(40, 8)
    padded = KeyedVectors(whole.words, strided(whole.vectors))
    assert not padded.vectors.is_contiguous()
    assert_same(padded.most_similar("w3"), whole.most_similar("w3"))
    assert_same(padded.analogy("w1", "w2", "w3"), whole.analogy("w1", "w2", "w3"))


def test_topn_and_restrict_vocab_have_bounds() -> None:
    kv = random_vectors(6, 3)
    assert kv.most_similar("w0", topn=0) == []
    assert len(kv.most_similar("w0", topn=100)) == 5
    assert len(kv.most_similar("w5", topn=100, restrict_vocab=4)) == 4
    assert len(kv.most_similar("w5", topn=100, restrict_vocab=400)) == 5
    everything = kv.most_similar("w0", topn=None)
    assert isinstance(everything, Tensor)
    assert everything.tolist() == pytest.approx([cosine(rows(kv)[0], row) for row in rows(kv)])
    for method in (kv.most_similar, kv.most_similar_cosmul):
        with pytest.raises(ValueError, match="topn is -1, expected 0 or more"):
            method("w0", topn=-1)
        with pytest.raises(ValueError, match="restrict_vocab is 0, expected at least 1"):
            method("w0", restrict_vocab=0)
        with pytest.raises(ValueError, match="empty"):
            method([])
    with pytest.raises(ValueError, match=r"a vector has shape \(4,\), expected \(3,\)"):
        kv.similar_by_vector(torch.ones(4))


def test_zero_vectors_have_no_similarity_and_nan_is_never_found() -> None:
    table = torch.tensor([[1.0, 0], [0, 0], [-1, 0], [torch.nan, 1]])
    kv = KeyedVectors(["a", "zero", "b", "nan"], table)
    assert kv.most_similar("a") == [("zero", 0.0), ("b", -1.0)]
    assert kv.similarity("a", "zero") == 0.0
    assert kv.most_similar_batch(["nan", "a"], topn=1)[1] == [("zero", 0.0)]
    assert [word for word, _ in kv.most_similar_cosmul("a")] == ["zero", "b"]


@pytest.mark.parametrize("normalized", [True, False])
def test_analogy_adds_the_difference(normalized: bool) -> None:
    kv = random_vectors(60, 5)
    table = rows(kv)
    if normalized:
        table /= np.linalg.norm(table, axis=1, keepdims=True)
    query = table[2] - table[1] + table[3]
    query /= math.sqrt(float(query @ query))
    pairs = [(w, float(row @ query)) for w, row in zip(kv.words, table, strict=True)]
    expected = sorted((p for p in pairs if p[0] not in ("w1", "w2", "w3")), key=lambda p: -p[1])
    assert_same(kv.analogy("w1", "w2", "w3", normalized=normalized), expected[:5])


def test_cosmul_multiplies_shifted_cosines() -> None:
    kv = random_vectors(60, 5)
    table = rows(kv)
    scores = []
    for word, row in zip(kv.words, table, strict=True):
        if word not in ("w1", "w2", "w3"):
            shifted = [(1 + cosine(row, table[i])) / 2 for i in (1, 2, 3)]
            scores.append((word, shifted[0] * shifted[1] / (shifted[2] + 1e-6)))
    scores.sort(key=lambda pair: -pair[1])
    got = kv.most_similar_cosmul(["w1", "w2"], ["w3"], topn=7)
    assert_same(got, scores[:7], tolerance=1e-3 * scores[0][1])
    with pytest.raises(ValueError, match="takes no weights"):
        kv.most_similar_cosmul([("w1", 2.0)])


def test_words_among_words_equal_plain_loops() -> None:
    kv = random_vectors(30, 4)
    table = rows(kv)
    assert kv.similarity("w1", "w2") == pytest.approx(cosine(table[1], table[2]), abs=1e-6)
    assert kv.distance("w1", "w2") == pytest.approx(1 - cosine(table[1], table[2]), abs=1e-6)
    expected = [1 - cosine(table[1], row) for row in table]
    assert kv.distances("w1").tolist() == pytest.approx(expected, abs=1e-6)
    some = kv.distances(kv["w1"], ["w7", "w4"]).tolist()
    assert some == pytest.approx([expected[7], expected[4]], abs=1e-6)
    mean = cosine(table[[1, 2]].mean(0), table[[3, 4, 5]].mean(0))
    assert kv.n_similarity(["w1", "w2"], ["w3", "w4", "w5"]) == pytest.approx(mean, abs=1e-6)
    closer = [f"w{i}" for i in range(30) if i != 1 and expected[i] < expected[9]]
    assert kv.closer_than("w1", "w9") == closer
    assert kv.rank("w1", "w9") == len(closer) + 1
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    odd = int((unit[3:9] @ unit[3:9].mean(0)).argmin())
    assert kv.doesnt_match([f"w{i}" for i in range(3, 9)]) == f"w{3 + odd}"
    with pytest.raises(ValueError, match="at least one word"):
        kv.n_similarity([], ["w1"])
    with pytest.raises(ValueError, match="at least one word"):
        kv.doesnt_match([])


def test_empty_vocabulary_finds_nothing() -> None:
    kv = KeyedVectors([], torch.empty(0, 3))
    assert kv.similar_by_vector(torch.ones(3)) == []
    assert kv.most_similar_batch(torch.ones(2, 3)) == [[], []]
    assert kv.distances(torch.ones(3)).shape == (0,)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_results_on_a_device_are_those_of_the_host() -> None:
    host = random_vectors(500, 16)
    there = host.to("cuda")
    assert there.vectors.is_cuda
    assert_same(
        there.most_similar(["w1", host.vectors[2]]), host.most_similar(["w1", host.vectors[2]])
    )
    assert_same(there.analogy("w1", "w2", "w3"), host.analogy("w1", "w2", "w3"))
    assert there.rank("w1", "w2") == host.rank("w1", "w2")
    assert there.doesnt_match(["w1", "w2", "w3"]) == host.doesnt_match(["w1", "w2", "w3"])
    questions = {"s": [("w1", "w2", "w3", "w4")]}
    assert there.evaluate_word_analogies(questions) == host.evaluate_word_analogies(questions)


def test_to_shares_what_is_already_there() -> None:
    kv = random_vectors(4, 2)
    same = kv.to("cpu")
    assert same.words == kv.words
    assert same.vectors.data_ptr() == kv.vectors.data_ptr()


# Evaluation


def test_analogies_are_solved_by_section() -> None:
    table = torch.tensor([[1.0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1.1], [0.9, 0, 1]])
    kv = KeyedVectors(["man", "men", "cat", "cats", "Cat"], table)
    asked = {
        "plural": [("man", "men", "cat", "cats"), ("Man", "men", "cat", "men")],
        "unknown": [("man", "men", "ox", "oxen")],
    }
    score, sections = kv.evaluate_word_analogies(asked)
    assert score == 0.5
    assert [section["section"] for section in sections] == ["plural", "unknown", "Total accuracy"]
    assert sections[0]["correct"] == [("MAN", "MEN", "CAT", "CATS")]
    assert sections[0]["incorrect"] == [("MAN", "MEN", "CAT", "MEN")]
    assert sections[1]["correct"] == sections[1]["incorrect"] == []
    score, sections = kv.evaluate_word_analogies(asked, dummy4unknown=True)
    assert score == pytest.approx(1 / 3)
    assert sections[1]["incorrect"] == [("MAN", "MEN", "OX", "OXEN")]
    score, _ = kv.evaluate_word_analogies(asked, case_insensitive=False)
    assert score == 1.0
    assert kv.evaluate_word_analogies({})[0] == 0.0
    assert kv.evaluate_word_analogies(asked, restrict_vocab=3)[0] == 0.0


def test_no_variant_of_the_three_words_is_an_answer() -> None:
    table = torch.tensor([[1.0, 0], [0.9, 0.1], [0.8, 0.2], [1, 0.01], [0, 1]])
    kv = KeyedVectors(["a", "b", "c", "C", "d"], table)
    score, _ = kv.evaluate_word_analogies({"s": [("a", "b", "c", "d")]})
    assert score == 1.0


def test_files_of_analogies_and_pairs_pass_over_lines_with_one_warning(tmp_path: Path) -> None:
    kv = random_vectors(6, 3)
    questions = tmp_path / "questions.txt"
    questions.write_text("\n: first\nw1 w2 w3 w4\nw1 w2\n\n: second \nw1\n")
    with pytest.warns(UserWarning, match="2 lines passed over, line 4 first: expected four words"):
        _, sections = kv.evaluate_word_analogies(questions)
    assert [section["section"] for section in sections] == ["first", "second", "Total accuracy"]
    questions.write_text("w1 w2 w3 w4\n")
    with pytest.raises(ValueError, match="line 1: expected a section"):
        kv.evaluate_word_analogies(questions)
    with pytest.raises(ValueError, match="restrict_vocab is 0"):
        kv.evaluate_word_analogies({}, restrict_vocab=0)


def test_pairs_correlate_as_scipy_says(tmp_path: Path) -> None:
    kv = random_vectors(9, 3)
    judged = [(f"w{i}", f"W{i + 1}", float(i * i % 7)) for i in range(8)]
    path = tmp_path / "pairs.tsv"
    lines = [f"{a}\t{b}\t{score}\n" for a, b, score in judged]
    path.write_text("# comment\nword1\tword2\tscore\n" + "".join(lines) + "unknown\tw1\t3\n\n")
    with pytest.warns(UserWarning, match="1 lines passed over, line 2 first"):
        result = kv.evaluate_word_pairs(path)
    assert result == kv.evaluate_word_pairs([*judged, ("unknown", "w1", 3.0)])
    table = rows(kv)
    similar = [cosine(table[i], table[i + 1]) for i in range(8)]
    gold = [score for _, _, score in judged]
    assert result.pearson == pytest.approx(tuple(stats.pearsonr(gold, similar)), rel=1e-5)
    assert result.spearman == pytest.approx(tuple(stats.spearmanr(gold, similar)), rel=1e-5)
    assert result.oov_ratio == pytest.approx(100 / 9)
    with_zero = kv.evaluate_word_pairs([*judged, ("unknown", "w1", 3.0)], dummy4unknown=True)
    expected = stats.pearsonr([*gold, 3.0], [*similar, 0.0])
    assert with_zero.pearson.statistic == pytest.approx(expected[0], rel=1e-5)
    assert with_zero.oov_ratio == pytest.approx(100 / 9)
    with pytest.raises(ValueError, match="0 pairs of known words and 8 others"):
        kv.evaluate_word_pairs(judged, case_insensitive=False)


# gensim


def gensim_vectors(kv: KeyedVectors) -> Any:
    keyedvectors = pytest.importorskip("gensim.models.keyedvectors")
    theirs = keyedvectors.KeyedVectors(kv.vector_size)
    theirs.add_vectors(kv.words, kv.vectors.numpy())
    return theirs


def gensim_data(name: str) -> Path:
    gensim = pytest.importorskip("gensim")
    return Path(gensim.__path__[0], "test", "test_data", name)


def vectors_of_the_questions() -> KeyedVectors:
    """Words of gensim's test data, whose vectors solve some analogies, with variants of case."""
    path = gensim_data("questions-words.txt")
    draw = generator(1)
    vectors: dict[str, Tensor] = {}
    for line in path.read_text().splitlines():
        if not line.startswith(":"):
            a, b, c, d = line.split()
            for word in (a, b, c):
                vectors.setdefault(word, torch.randn(20, generator=draw))
            noisy = vectors[b] - vectors[a] + vectors[c] + torch.randn(20, generator=draw)
            vectors.setdefault(d, noisy)
    for line in gensim_data("simlex999.txt").read_text().splitlines()[::2]:
        for word in line.split("\t")[:2]:
            vectors.setdefault(word, torch.randn(20, generator=draw))
    for word in list(vectors)[::3]:
        variant = word.lower() if word != word.lower() else word.title()
        vectors.setdefault(variant, vectors[word] + 0.1 * torch.randn(20, generator=draw))
    return KeyedVectors(list(vectors), torch.stack(list(vectors.values())))


def test_queries_equal_gensims() -> None:
    ours = random_vectors(200, 10)
    theirs = gensim_vectors(ours)
    vector = ours.vectors[50].numpy() * 2
    for positive, negative in (
        (["w1", "w2"], ["w3"]),
        ("w1", None),
        ([("w1", 0.5), ("w9", 2.0)], [("w3", -0.25)]),
        ([vector, "w4"], ["w7"]),
        (None, ["w7"]),
        (vector, None),
        ([3, 4], 5),
    ):
        for limit in (None, 60):
            assert_same(
                ours.most_similar(positive, negative, topn=7, restrict_vocab=limit),
                theirs.most_similar(positive, negative, topn=7, restrict_vocab=limit),
            )
    everything = ours.most_similar(["w1"], ["w2"], topn=None)
    np.testing.assert_allclose(
        everything.numpy(), theirs.most_similar(["w1"], ["w2"], topn=None), atol=1e-6
    )
    assert_same(
        ours.most_similar_cosmul(["w1", "w2"], ["w3"], topn=6),
        theirs.most_similar_cosmul(["w1", "w2"], ["w3"], topn=6),
        tolerance=1e-3,
    )
    assert_same(ours.similar_by_vector(vector), theirs.similar_by_vector(vector))
    assert ours.similarity("w1", "w2") == pytest.approx(theirs.similarity("w1", "w2"), abs=1e-6)
    np.testing.assert_allclose(ours.distances("w1"), theirs.distances("w1"), atol=1e-6)
    words = [f"w{i}" for i in range(20, 30)]
    assert ours.doesnt_match(words) == theirs.doesnt_match(words)
    assert ours.rank("w1", "w2") == theirs.rank("w1", "w2")
    assert ours.closer_than("w1", "w2") == theirs.closer_than("w1", "w2")
    means = ours.n_similarity(words[:3], words[3:])
    assert means == pytest.approx(theirs.n_similarity(words[:3], words[3:]), abs=1e-6)


@pytest.mark.parametrize("case_insensitive", [True, False])
def test_analogies_equal_gensims(case_insensitive: bool, tmp_path: Path) -> None:
    ours = vectors_of_the_questions()
    theirs = gensim_vectors(ours)
    lines = gensim_data("questions-words.txt").read_text().splitlines()
    some = [line for i, line in enumerate(lines) if line.startswith(":") or i % 9 == 0]
    path = tmp_path / "questions.txt"  # a ninth: gensim is slow
    path.write_text("\n".join(some) + "\n")
    for options in ({"restrict_vocab": 700}, {"restrict_vocab": 700, "dummy4unknown": True}, {}):
        score, sections = ours.evaluate_word_analogies(
            path, case_insensitive=case_insensitive, **options
        )
        expected = theirs.evaluate_word_analogies(
            str(path), case_insensitive=case_insensitive, **options
        )
        assert 0.02 < score < 0.98
        assert score == expected[0]
        assert sections == expected[1]


@pytest.mark.parametrize("name", ["wordsim353.tsv", "simlex999.txt"])
@pytest.mark.parametrize("dummy4unknown", [True, False])
def test_pairs_equal_gensims(name: str, dummy4unknown: bool) -> None:
    ours = vectors_of_the_questions()
    path = gensim_data(name)
    expected = gensim_vectors(ours).evaluate_word_pairs(str(path), dummy4unknown=dummy4unknown)
    result = ours.evaluate_word_pairs(path, dummy4unknown=dummy4unknown)
    assert 0 < result.oov_ratio < 100
    assert result.oov_ratio == expected[2]
    assert result.pearson == pytest.approx(tuple(expected[0]), rel=1e-4)
    assert result.spearman == pytest.approx(tuple(expected[1]), rel=1e-4)
