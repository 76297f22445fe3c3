"""Detectors: from a model's outputs to boxes, and from boxes to a score that can be explained.

Belongs here: the decode spec (``schema``, ``reading``), outputs as rows and boxes (``layouts``, ``proposals``), overlap
and suppression (``boxes``), the ``detection:`` target (``target``). Not here: explaining (``methods``), drawing
(``report``). Importing this package stays cheap: pydantic loads with ``schema``.
"""
