"""ATen operators as ONNX nodes, a family a file; importing the room fills the table."""

from analyzer.compiler.lowering import elementwise, indexing, linear, pooling, shape  # noqa: F401
from analyzer.compiler.lowering.table import LOWERINGS

__all__ = ["LOWERINGS"]
