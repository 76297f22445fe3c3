"""What is explained: the target language, where a model's scores are, inner units, detections.

Belongs here: from a target as it is given to a weighted sum of one value of the model. Not here: explaining it
(``analyzer.methods``).
"""
