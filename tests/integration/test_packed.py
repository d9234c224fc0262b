"""Linear layers with packed weights, in a process of its own: the tests' own never loads torch."""

import subprocess
import sys

PROGRAM = """
import torch
from torch import nn
from homelab_ai.models.engines.packed import PackedLinear, pack

torch.manual_seed(0)


class OfItsOwn(nn.Linear):
    pass


def model(dtype):
    return nn.Sequential(
        nn.Linear(48, 96), nn.GELU(), nn.Sequential(nn.Linear(96, 48, bias=False), OfItsOwn(48, 8)), nn.LayerNorm(8)
    ).to(dtype)


with torch.inference_mode():
    whole = model(torch.float32)
    pack(whole)
    assert not any(isinstance(module, PackedLinear) for module in whole.modules()), "of no use in float32"

    half = model(torch.bfloat16)
    shapes = [(48,), (1, 48), (5, 7, 48), (0, 48)]
    inputs = [torch.randn(shape, dtype=torch.bfloat16) for shape in shapes]
    expected = [half(each) for each in inputs]
    pack(half)
    possible = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert sum(isinstance(module, PackedLinear) for module in half.modules()) == (2 if possible else 0)
    assert half[2][1].weight.shape == (8, 48), "whoever made a layer of their own may look at its weights"
    assert half[0].weight.dtype is torch.bfloat16
    for one, other in zip(map(half, inputs), expected):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, atol=0.03, rtol=0.03)
    half = None
print("packed" if possible else "not possible here")
"""


def test_packed_layers_give_the_same_results() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"packed", "not possible here"}
