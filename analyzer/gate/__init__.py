"""The gate: whether a model passes what its owner demands of its explanations, on evidence.

Belongs here: the policy, its checks, what is decided on them, the reports of a run. Not here: metrics and statistics
(``analyzer.evaluation``), reading data (``analyzer.data``), the command (``cli.gate``).
"""
