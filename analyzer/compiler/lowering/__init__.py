"""ATen operators as ONNX nodes, one file for each family of operators; importing the package fills the table.

Belongs here: what each operator becomes. Not here: operators that are first decomposed into others (``decompositions``),
the walk over a recording (``writer``).
"""

from analyzer.compiler.lowering import elementwise, indexing, linear, pooling, shape  # noqa: F401
from analyzer.compiler.lowering.table import LOWERINGS

__all__ = ["LOWERINGS"]
