"""Detectors: from a model's outputs to boxes, and from boxes to a score that can be explained.

Belongs here: outputs as rows and boxes (``layouts``, ``proposals``), overlap and suppression (``boxes``), the ``detection:``
target (``target``), detections of a model (``finding``). Not here: the decode spec (``analyzer.inputs.decode``), explaining
(``analyzer.methods``), drawing (``analyzer.report``). Importing this package stays cheap: pydantic loads with its modules.
"""
