"""Inputs for a model, one or many: files and ``NAME=FILE`` texts, and data sets with labels, masks and slices.

Belongs here: from paths to what a model takes. Not here: reading one file (``analyzer.inputs``), running models on what was read.
"""
