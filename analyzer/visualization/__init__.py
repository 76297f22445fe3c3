"""What a network holds inside, from its file alone: values of layers, filters, receptive fields, the data that a unit likes.

Belongs here: arrays and figures. Not here: pictures and pages of them (``analyzer.report``), files (``analyzer.jobs``).
"""
