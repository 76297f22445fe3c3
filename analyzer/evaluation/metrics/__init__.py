"""The metrics, a short file each; :mod:`analyzer.evaluation.registry` finds them."""
