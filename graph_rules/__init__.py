"""Graph rules: how relevance walks backwards over a traced model, node by node.

Knows ``torch.fx`` and ATen; knows nothing of files, ONNX protobufs, methods or command lines. A trace is a flat
``torch.fx.GraphModule`` of ATen operators; each node's ``meta`` may hold ``onnx`` (name of the ONNX node it came from),
``op`` (that node's operator type), ``shape`` and ``dtype``.

====================  ===========================================================================
module                what lives there
====================  ===========================================================================
``operators``         lists that sort ATen operators into groups
``kinds``             what a node is to a rule table
``sweep``             one forward pass, one reverse sweep
``rules``             the rules: small frozen dataclasses
``signed``            alpha-beta and gamma: contributions of both signs apart
``mixing``            gamma as w+ + gamma w-
``attention``         rules for attention, normalisation and reductions
``reference``         difference rules: linear, elementwise and smooth operators
``reference_axes``    difference rules: maxima, softmax, normalisations
``deeplift``          which operator gets which difference rule; reveal-cancel
``facts``             what is known about values without running the model: signs
``naming``, ``rule_parser``  rules as text: writing, reading
``settings``          what the rules of a composite share
``places``            where a node is: name, kind, first or last, depth
``keys``              keys of a rule table: what fits, what is more specific
``domains``           which kinds of node a rule is for
``tables``            rule tables: which node gets which rule
``composites``        the named tables
``affine``            a linear node: apply, transpose, modified weights
``stabilizer``        what keeps denominators from zero
``cam``               finding the layer that class activation maps are read at
====================  ===========================================================================
"""
