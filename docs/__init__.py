"""Sources of the documentation; ``make.py`` writes the generated pages."""
