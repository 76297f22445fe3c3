"""Judging explanations: metrics, a short file each, and their registry; choosing and comparing explanations by them.

Belongs here: how good an explanation is, and how far two differ. Not here: deciding on it (``analyzer.gate``), running a
command (``analyzer.jobs``).
"""
