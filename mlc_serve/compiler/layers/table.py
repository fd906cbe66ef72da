"""Tables of learned positions on the CPU."""

from __future__ import annotations

from tvm.relax.frontend import nn

from mlc_serve.compiler.kernels.cpu.linear.embedding import add_positions


class Table(nn.Module):
    """A float32 table, row after row. It implements models.layers.Table."""

    def __init__(self, num_rows: int, width: int) -> None:
        self.num_rows, self.width = num_rows, width
        self.weight = nn.Parameter([num_rows, width], "float32")

    def add_to(self, x: nn.Tensor, positions: nn.Tensor) -> nn.Tensor:
        out = nn.Tensor.placeholder(x.shape, "float32")
        kernel = add_positions(self.num_rows, self.width)
        return nn.op.tensor_ir_op(kernel, "add_positions", [x, positions, self.weight], out)
