"""What perturbation methods stand on: scores of changed inputs, and what the changes are.

Belongs here: evaluating (``evaluator``, ``incremental``), replacing (``replacement``, ``fill_parameter``), what is changed
(``features``, ``coalitions``, ``random_masks``, ``spatial_layout``), sums over masks (``moments``) and budgets (``budget``).
Not here: the methods.
"""
