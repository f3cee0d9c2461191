"""seqkern.nn.LSTM beside torch.nn.LSTM (oneDNN), one layer, float32; grid.py has every cell."""

from typing import Any

import pytest
from case import PEERS, Case
from recurrent import layer_case

SIZES = [
    {"N": 20, "T": 35, "D": 100, "H": 100},
    {"N": 20, "T": 35, "D": 650, "H": 650},
    {"N": 32, "T": 100, "D": 256, "H": 256},
    {"N": 64, "T": 100, "D": 512, "H": 512},
    {"N": 1, "T": 35, "D": 256, "H": 256},
]
CASES = [layer_case("LSTM", sizes, backward) for backward in (False, True) for sizes in SIZES]


@pytest.mark.benchmark(warmup=True)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_lstm(benchmark: Any, case: Case, peer: str) -> None:
    benchmark.group = str(case)
    benchmark(case.make(peer))
