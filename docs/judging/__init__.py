"""The experiments and pictures of ``docs/judging.md``."""
