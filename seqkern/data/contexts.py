"""Random numbers that depend on where training stands."""

from __future__ import annotations

import numpy as np
import torch


def seeded_generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose seed depends on all of the numbers, which are not negative."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device).manual_seed(seed)
