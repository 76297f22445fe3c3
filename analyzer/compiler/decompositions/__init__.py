"""ATen operators as simpler ATen operators, a family a file; importing the room fills the table."""

from analyzer.compiler.decompositions import (  # noqa: F401
    derivatives,
    elimination,
    normalisation,
    reductions,
    resampling,
    sampling,
    weights,
)
from analyzer.compiler.decompositions.table import DECOMPOSITIONS

__all__ = ["DECOMPOSITIONS"]
