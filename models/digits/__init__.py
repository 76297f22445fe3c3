"""Handwritten 8x8 digits: a classifier and a generator."""
