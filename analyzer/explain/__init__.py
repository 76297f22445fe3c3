"""One explanation: the request, the choice of an engine, the steps that every method shares.

Belongs here: the request, the pipeline, fixed batches, the choice of an engine. Not here: the methods.
"""
