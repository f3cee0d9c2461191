"""Classify names by a logistic regression on the n-grams of their characters.

    python bench/name_baseline.py --data names_gender_en --lower --seeds 0 1 2 3 4

The names and their split are those of `seqkern.data.load_names` with the same seed. A name is the
counts of its n-grams of 1 to 4 characters, a mark before and after it; the strength of the
regularisation is the one best on the validation part. Prints one table.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from tables import table

from seqkern.data import Names, load_names

STRENGTHS = (0.3, 1.0, 3.0, 10.0)
LONGEST = 4


def marked(names: Names) -> list[str]:
    """The names, each between two marks."""
    return [f"\n{name}\n" for name in names.texts]


def row(source: str, lower: bool, seed: int, balanced: bool) -> list[object]:
    """Seed, C, accuracy in the validation and test parts and bound of the latter, seconds."""
    started = time.perf_counter()
    data = load_names(source, lower=lower, seed=seed)
    grams = CountVectorizer(analyzer="char", ngram_range=(1, LONGEST), lowercase=False)
    train = grams.fit_transform(marked(data.train))
    valid, test = (grams.transform(marked(part)) for part in (data.valid, data.test))
    fits = [
        LogisticRegression(
            C=strength, max_iter=1000, class_weight="balanced" if balanced else None
        ).fit(train, data.train.labels.numpy())
        for strength in STRENGTHS
    ]
    best = max(fits, key=lambda fit: fit.score(valid, data.valid.labels.numpy()))
    scores = (
        best.score(valid, data.valid.labels.numpy()),
        best.score(test, data.test.labels.numpy()),
    )
    seconds = time.perf_counter() - started
    return [seed, best.C, *scores, data.test.accuracy_bound, seconds]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="as `source` of seqkern.data.load_names")
    parser.add_argument("--lower", action="store_true", help="make all letters small")
    parser.add_argument("--balanced", action="store_true", help="weigh classes by 1 / their size")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args(arguments)
    rows = [row(options.data, options.lower, s, options.balanced) for s in options.seeds]
    means = [statistics.mean(column) for column in list(zip(*rows, strict=True))[2:]]
    lines = [[str(seed), f"{c:g}", *map(_number, rest)] for seed, c, *rest in rows]
    lines.append(["mean", "", *map(_number, means)])
    print("\n".join(table(["seed", "C", "validation", "test", "bound", "seconds"], lines)))


def _number(value: float) -> str:
    return f"{value:.4f}" if value < 1 else f"{value:.1f}"


if __name__ == "__main__":
    main()
