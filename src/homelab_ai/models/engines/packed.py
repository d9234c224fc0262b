"""Linear layers whose weights lie as the processor wants to read them.

In bfloat16, torch brings the weights of a linear layer into oneDNN's blocked layout at every call. Of a large product
that is a small part; but a decoder multiplies one row at a time, and then it takes longer than the product itself.
torch's compiler packs weights once, ahead of time; these are the operations that it uses, without the compiler, which
would need one for C++ on every machine that serves.
"""

import torch


class PackedLinear(torch.nn.Module):  # type: ignore[misc]  # mypy does not look into torch
    """Stands for a `torch.nn.Linear` that only calculates: the same results from weights that were packed once."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)  # noqa: SLF001
        self.bias = linear.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return `inputs` (..., in) times the weights: (..., out)."""
        return torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, "none", [], "")  # noqa: SLF001


def pack(model: torch.nn.Module) -> None:
    """Pack the linear layers of a model that is done with learning, where that is of use: in bfloat16 on a CPU."""
    weight = next(model.parameters())
    if weight.device.type == "cpu" and weight.dtype is torch.bfloat16 and _possible():
        _pack(model)


def _possible() -> bool:
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def _pack(module: torch.nn.Module) -> None:
    for name, child in module.named_children():
        # Not its subclasses: whoever made one of their own may look at the weights themselves.
        if type(child) is torch.nn.Linear:
            setattr(module, name, PackedLinear(child))
        else:
            _pack(child)
