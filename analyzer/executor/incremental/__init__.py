"""Exact incremental inference: for a local change of the input, only what it can reach is computed again.

Source: Nakandala, Kumar, Papakonstantinou 2019, Incremental and approximate inference for faster occlusion-based deep CNN
explanations, SIGMOD (the exact part).

======================  ================================================================================
``reach``               interval arithmetic along an axis
``graph``               the ONNX graph with concrete shapes; parts of it as models of their own
``operators``           which operators can be computed in part (``pointwise``, ``windowed``, ``locality``)
``stages``              the local part of a graph as stages that run on crops
``costs``, ``plan``     the cost model; regions of all windows, where the incremental part ends
``runner``, ``crops``   sessions and batches; cutting crops and writing computed parts
======================  ================================================================================

Knows neither methods nor scores, and never imports torch.
"""

from analyzer.executor.incremental.graph import Graph, Source
from analyzer.executor.incremental.plan import VERIFIED, Plan, planned
from analyzer.executor.incremental.reach import Span
from analyzer.executor.incremental.runner import Runner, Sample
from analyzer.executor.incremental.stages import Chain, chain

__all__ = ["VERIFIED", "Chain", "Graph", "Plan", "Runner", "Sample", "Source", "Span", "chain", "planned"]
