"""Graph rules: how relevance walks backwards over a traced model, node by node.

Knows ``torch.fx`` and ATen; knows nothing of files, ONNX protobufs, methods or command lines. A trace is a flat
``torch.fx.GraphModule`` of ATen operators; each node's ``meta`` may hold ``onnx`` (name of the ONNX node it came from),
``op`` (that node's operator type), ``shape`` and ``dtype``.

From the bottom to the top; a module imports only from those above it in this list:

======================  =========================================================================
module                  what lives there
======================  =========================================================================
``nearest``             the known name that somebody meant
``errors``              what the user did wrong with rules; a table without a rule for a node
``composite_params``    the parameters of composites
``stabilizer``          what keeps denominators from zero
``operators``           the table of ATen operators; ``register_operator``
``active``              which nodes depend on the explained values
``kinds``               what a node is to a rule table
``axes``                the axes of a value, and where they come from
``axis_flow``           which axes of an input each value of a trace has kept
``feature_layout``      which axes of a value count channels, places and tokens
``vjp``                 vector-Jacobian products by autograd
``rule``                what a rule declares about itself, a node as it sees it, a plan
``position``            which node of a trace a sweep is at
``rectifiers``          rectifiers' bounds, and activation functions with the plain derivative
``execution``           running the nodes of a trace
``gradient_sweep``      the sweep that is nothing but a gradient
``sweep``               one forward pass, one reverse sweep
``applicability``       which kinds of node a rule may be given to
``rule_format``         rules with names and their text form; ``register_rule``
``sign_analysis``       which values are never negative
``zero_relevance``      where a sweep puts no relevance
``in_place``            arithmetic that may overwrite its argument
``affine``              a linear node: apply, transpose, modified weights
``mixing``, ``signed``  gamma as w+ + gamma w-; alpha-beta and gamma
``rules``               all other rules of layers and elementwise nodes
``attention``           rules of attention, normalisation and reductions
``rule_parser``         reading a rule's text
``node_info``           what a table looks at in a node: name, kind, first or last, depth
``selectors``           keys of a table: what fits, what is more specific
``tables``              which node gets which rule
``composites``          the named tables
``multipliers``         difference rules: linear, elementwise and smooth operators
``multipliers_axes``    difference rules: maxima, softmax, normalisations
``deeplift``            which operator gets which difference rule; reveal-cancel
``totals``              relevance totals by ONNX node
``cam``                 finding the layer that class activation maps are read at
======================  =========================================================================
"""
