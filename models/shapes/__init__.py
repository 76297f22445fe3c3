"""Drawn scenes with a known object, and the two image classifiers trained on them."""
