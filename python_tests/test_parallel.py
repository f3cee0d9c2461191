"""Two processes under torchrun: their averaged gradients are those of the whole batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed

from ddp_worker import Model

pytestmark = pytest.mark.backends("cpu", reason="its processes run the CPU kernels")

WORKER = Path(__file__).with_name("ddp_worker.py")


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch is built without gloo",
)
def test_two_processes_average_to_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    model = Model()
    tokens, target = torch.randint(23, (2, 7, 6))
    path = tmp_path / "problem.pt"
    torch.save({"state": model.state_dict(), "tokens": tokens, "target": target}, path)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    result = subprocess.run(
        [*launch, str(WORKER), str(path)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr

    loss = model(tokens, target)  # each half has as many targets, so that the means average
    loss.backward()
    found = torch.load(f"{path}.out")
    torch.testing.assert_close(found["loss"], loss.detach())
    expected = [parameter.grad for parameter in model.parameters()]
    torch.testing.assert_close(found["gradients"], expected)
