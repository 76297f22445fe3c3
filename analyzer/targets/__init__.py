"""What is explained: the target language, where a model's scores are, inner units, detections.

Belongs here: from what was asked to a weighted sum of one value of the model. Not here: how it is explained.
"""
