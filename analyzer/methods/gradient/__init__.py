"""Gradients and what is averaged over them."""
