"""Sources of the documentation; ``make.py`` writes the generated pages, ``layers.py`` reads who imports whom."""
