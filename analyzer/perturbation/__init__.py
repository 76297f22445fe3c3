"""What perturbation methods stand on: scores of changed inputs, and what the changes are.

Belongs here: evaluating, replacing, masks, budgets. Not here: the methods.
"""
