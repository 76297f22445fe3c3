"""What a node of a trace is to a rule table: convolution, activation, addition, movement, …

Belongs here: sorting nodes into kinds, finding a node's weights, telling gates from signals and rectifiers from other
functions. Not here: which nodes are active (``active``; it can be had from here too), the table of operators
(``operators``), what a rule does with a node (``rules``), which rule it gets (``tables``).

The kind depends on which arguments depend on the explained input ("active"): ``mul`` by a constant is a ``scale``, of
two active tensors a ``product``; ``mm`` with a constant matrix is ``linear``, of two active ones a ``matmul``.
"""

from __future__ import annotations

from collections.abc import Container
from operator import getitem

from torch import fx

from graph_rules import operators as o
from graph_rules.active import active_arguments as active_arguments
from graph_rules.active import active_nodes as active_nodes
from graph_rules.active import computed_from as computed_from
from graph_rules.operators import OPERATORS, aten

#: Kind -> what it covers, for messages and the documentation.
KINDS = {
    "convolution": "convolution with constant weights",
    "linear": "matrix product with a constant matrix",
    "attention": "values times weights from a softmax, as a matrix product or element by element; values sampled at "
    "computed coordinates",
    "matmul": "any other matrix product or convolution of two computed values",
    "relu": "ReLU, however it was written",
    "rectifier": "ReLU with a bound (ReLU6), a slope (leaky, PReLU) or a threshold",
    "activation": "any other elementwise function of one value",
    "layer-sum": "sum of matrix products or of gated signals inside one unit (recurrent cells)",
    "add": "any other sum of computed values (skip connection)",
    "bias": "constant added to matrix products, as a bias beside them",
    "shift": "any other sum with a constant",
    "scale": "product with a constant",
    "product": "product of two computed values",
    "gate": "product in which one operand comes from a sigmoid or hard-sigmoid",
    "self-gate": "product of a value and an elementwise or normalising function of itself (SiLU or RMS normalisation "
    "written out)",
    "quotient": "quotient of two computed values",
    "average": "average pooling, mean or sum over axes, cumulative sum",
    "norm": "norm or deviation over axes",
    "reduced-product": "product or variance over axes",
    "maximum": "max pooling, maximum over axes, top-k",
    "batch-norm": "batch normalisation that could not be folded",
    "layer-norm": "layer, group or instance normalisation",
    "softmax": "softmax",
    "movement": "values moved, copied, resampled or padded, not changed",
    "other": "anything else",
}


def weight_position(node: fx.Node, active: Container[fx.Node]) -> tuple[int, int] | None:
    """Positions of (input, weight) among a linear node's arguments where exactly one operand is active."""
    if node.target is aten.convolution.default:
        return (0, 1) if node.args[0] in active and not any(a in active for a in node.args[1:3]) else None
    if node.target not in o.LINEAR:
        return None
    first = factor_positions(node)[0]
    if first and node.args[0] in active:
        return None
    left, right = node.args[first] in active, node.args[first + 1] in active
    if left and not right:
        return first, first + 1
    if right and not left:
        return first + 1, first
    return None


def factor_positions(node: fx.Node) -> tuple[int, int]:
    """Positions of the two factors among the arguments of a matrix product or convolution."""
    row = OPERATORS.get(node.target)
    return (1, 2) if row is not None and row.addend else (0, 1)


def kind(node: fx.Node, active: Container[fx.Node]) -> str:
    """The node's kind: a key of :data:`KINDS`."""
    target = node.target
    if target in o.CONVOLUTIONS or target in o.LINEAR:
        if weight_position(node, active):
            return "convolution" if target in o.CONVOLUTIONS else "linear"
        return "attention" if len(gates(node, active)) == 1 else "matmul"
    if is_relu(node, active):
        return "relu"
    inputs = active_arguments(node, active)
    if target in o.ADDITIONS:
        return _sum(inputs, active)
    if target in o.PRODUCTS or target in o.QUOTIENTS:
        return _product(node, active)
    if target in o.SCATTERED:
        return _scattered(node)
    if target in o.SAMPLERS:
        return "attention" if node.args[1] in active else "movement"
    if target in (aten.maximum.default, aten.minimum.default) and len(inputs) == 1 and _same_shape(node, inputs[0]):
        return "activation"
    if target in o.ACTIVATIONS and len(inputs) > 1:
        return "self-gate"  # a computed bound or slope
    if rectifies(node, active):
        return "rectifier"
    if o.schema_name(target) in o.ROUNDING:
        return "activation"
    group = o.group_of(target)
    return group if group is not None and group in _KINDS_BY_GROUP else "other"


def is_relu(node: fx.Node, active: Container[fx.Node]) -> bool:
    """Whether a node is max(x, 0)."""
    if node.target is aten.relu.default:
        return True
    values = [a for a in node.args if a not in active]
    if node.target in (aten.clamp.default, aten.clamp_min.default):
        return values[:1] == [0] and not any(v is not None for v in (*values[1:], node.kwargs.get("max")))
    if node.target is aten.maximum.default:
        inputs = active_arguments(node, active)
        return len(inputs) == 1 and _same_shape(node, inputs[0]) and all(_number(v) == 0 for v in values)
    return False


def rectifies(node: fx.Node, active: Container[fx.Node]) -> bool:
    """Whether a node is a rectifier: it lets positive values pass up to a bound, and cuts off or damps negative ones.

    A clamp is one from 0 on, unless it is the numerator of a hard sigmoid; so is a choice between a value and 0 by a
    threshold that isn't negative.
    """
    if node.target is aten.where.self:
        return _thresholded(node)
    row = OPERATORS.get(node.target)
    if is_relu(node, active) or row is None or row.unit is not o.Unit.CLAMP:
        return row is not None and row.unit is o.Unit.RECTIFIER
    bounds = _bounds(node)
    return bounds is not None and bounds[0] == 0 and not _hard_sigmoid(node, active)


def gates(node: fx.Node, active: Container[fx.Node]) -> list[fx.Node]:
    """The active arguments that weigh the others: they get no relevance where the signal takes all."""
    target = node.target
    inputs = active_arguments(node, active)
    if target in o.QUOTIENTS:
        return [a for a in inputs if a is not node.args[0]]
    if target in o.SAMPLERS or target in o.ACTIVATIONS:
        return [a for a in inputs if a is not node.args[0]]
    if target in o.LINEAR or target in o.CONVOLUTIONS:
        factors = [node.args[i] for i in factor_positions(node)]
        inputs = [a for a in inputs if a in factors]
    if len(inputs) == 1 and target is aten.mul.Tensor and node.meta.get("op") in _CELLS:
        return [a for a in inputs if is_gate(a, active)]  # the signal is the constant initial state
    if len(inputs) != 2:
        return []
    found = [a for a in inputs if is_gate(a, active)]
    if len(found) == 1:
        return found
    if target is aten.mul.Tensor:
        return [b for a, b in (inputs, inputs[::-1]) if _follows(b, _signal(a, active), active)][:1]
    return []


def is_gate(node: fx.Node, active: Container[fx.Node], softmax: bool = False) -> bool:
    """Whether a value comes from a gate activation, looking through movements, scales and shifts (1 - z).

    ``softmax``: whether it comes from a softmax.
    """
    if node.op != "call_function":
        return False
    row = OPERATORS.get(node.target)
    if row is not None and (row.group == "softmax" if softmax else row.gate):
        return True
    if not softmax and _hard_sigmoid(node, active):
        return True
    inputs = active_arguments(node, active)
    through = node.target in o.MOVEMENTS or (
        len(inputs) == 1 and (node.target in o.ADDITIONS or node.target in o.PRODUCTS or node.target in o.QUOTIENTS)
    )
    return through and bool(inputs) and all(is_gate(value, active, softmax) for value in inputs)


def _product(node: fx.Node, active: Container[fx.Node]) -> str:
    operands = [a for a in node.args[:2] if a in active]  # x * x has two
    if len(operands) < 2:
        if node.target is aten.mul.Tensor and gates(node, active):
            return "gate"
        scaling = node.target in (aten.mul.Tensor, aten.mul.Scalar, aten.neg.default) or (
            node.target in (aten.div.Tensor, aten.div.Scalar) and node.args[0] in active
        )
        return "scale" if scaling else "activation"
    if node.target in o.QUOTIENTS:
        return "quotient"
    weighing = gates(node, active)
    if not weighing or node.target is not aten.mul.Tensor:
        return "product"
    signal = next(a for a in operands if isinstance(a, fx.Node) and a not in weighing)
    if is_gate(weighing[0], active, softmax=True):
        return "attention"
    return "self-gate" if _follows(weighing[0], _signal(signal, active), active) else "gate"


def _sum(inputs: list[fx.Node], active: Container[fx.Node]) -> str:
    layers = all(_from_layers(value, active) for value in inputs)
    if len(inputs) == 1:
        return "bias" if layers else "shift"
    return "layer-sum" if layers or all(_gated(value, active) for value in inputs) else "add"


def _from_layers(node: fx.Node, active: Container[fx.Node]) -> bool:
    """Whether a value is a sum of matrix products with constant weights, rearranged or scaled, and only read as such."""
    if node.op != "call_function" or not all(_sums_or_moves(user, active) for user in node.users if user in active):
        return False
    if node.target in o.LINEAR:
        return weight_position(node, active) is not None
    inputs = active_arguments(node, active)
    return _sums_or_moves(node, active) and bool(inputs) and all(_from_layers(value, active) for value in inputs)


def _sums_or_moves(node: fx.Node, active: Container[fx.Node]) -> bool:
    scale = node.target in (aten.mul.Tensor, aten.mul.Scalar) and len(active_arguments(node, active)) == 1
    return node.target in o.MOVEMENTS or node.target in o.ADDITIONS or scale


def _gated(node: fx.Node, active: Container[fx.Node]) -> bool:
    return node.target is aten.mul.Tensor and any(isinstance(a, fx.Node) and is_gate(a, active) for a in node.args[:2])


def _scattered(node: fx.Node) -> str:
    reduce = node.kwargs.get("reduce", node.args[4] if len(node.args) > 4 else "sum")
    if reduce in ("sum", "add", "mean"):
        return "average"
    return "maximum" if reduce in ("amax", "amin") else "other"


def _signal(node: fx.Node, active: Container[fx.Node]) -> fx.Node:
    """The value that a signal is a constant multiple of."""
    while True:
        inputs = active_arguments(node, active)
        scaled = node.target in (aten.mul.Tensor, aten.mul.Scalar, aten.neg.default) or (
            node.target in (aten.div.Tensor, aten.div.Scalar) and node.args[0] in active
        )
        copied = node.target in (aten.clone.default, aten.alias.default, aten._to_copy.default)
        if node.op != "call_function" or not (scaled or copied) or len(inputs) != 1 or node.args.count(inputs[0]) > 1:
            return node
        node = inputs[0]


def _follows(node: fx.Node, base: fx.Node, active: Container[fx.Node]) -> bool:
    """Whether a value depends on the input only through ``base``, by elementwise functions, norms and averages."""
    seen: set[fx.Node] = set()
    stack = [node]
    while stack:
        here = stack.pop()
        if here is base or here in seen or here not in active:
            continue
        seen.add(here)
        normalising = o.group_of(here.target) in _NORMALISING_GROUPS or here.target in _NORMALISING
        if here.op != "call_function" or not (normalising or o.schema_name(here.target) in o.ROUNDING):
            return False
        stack.extend(active_arguments(here, active))
    return node is not base or bool(seen)


def _hard_sigmoid(node: fx.Node, active: Container[fx.Node]) -> bool:
    """Whether a node is clamp(x + c, 0, m) with c, m > 0, the numerator of a hard sigmoid written out."""
    low, high, inner = _clamped(node, active)
    if low != 0 or high is None or high <= 0 or inner is None or inner.target not in (aten.add.Tensor, aten.add.Scalar):
        return False
    added = [value for value in (_number(a) for a in inner.args[:2] if a not in active) if value is not None]
    return len(active_arguments(inner, active)) == 1 and len(added) == 1 and added[0] > 0


def _clamped(node: object, active: Container[fx.Node]) -> tuple[float | None, float | None, fx.Node | None]:
    """(low, high, value) of a clamp, however many nodes it was written as."""
    low = high = None
    value: fx.Node | None = node if isinstance(node, fx.Node) else None
    while value is not None and value.op == "call_function":
        bounds = _bounds(value)
        inputs = active_arguments(value, active)
        if bounds is None or len(inputs) != 1:
            break
        low = bounds[0] if low is None else low
        high = bounds[1] if high is None else high
        value = inputs[0]
    return low, high, value


def _bounds(node: fx.Node) -> tuple[float | None, float | None] | None:
    args = [_number(a) for a in node.args]
    target = node.target
    if target is aten.relu.default:
        return 0.0, None
    if target is aten.hardtanh.default:
        return (args[1], args[2]) if len(args) > 2 else (-1.0, 1.0)
    if target in (aten.clamp.default, aten.clamp.Tensor):
        return (args[1] if len(args) > 1 else None, args[2] if len(args) > 2 else None)
    if target in (aten.clamp_min.default, aten.clamp_min.Tensor):
        return args[1], None
    if target in (aten.clamp_max.default, aten.clamp_max.Tensor):
        return None, args[1]
    if target in (aten.maximum.default, aten.minimum.default):
        value = next((a for a in args if a is not None), None)
        return (value, None) if target is aten.maximum.default else (None, value)
    return None


def _number(value: object) -> float | None:
    """A constant that is one number, else None."""
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, fx.Node) and value.op == "get_attr" and value.graph.owning_module is not None:
        tensor = getattr(value.graph.owning_module, str(value.target))
        same = tensor.numel() > 0 and bool((tensor == tensor.reshape(-1)[0]).all())
        return float(tensor.reshape(-1)[0]) if same else None
    return None


def _thresholded(node: fx.Node) -> bool:
    """Whether a choice is where(x > c, x, 0) with c >= 0."""
    condition, value, other = node.args[:3]
    if not (isinstance(condition, fx.Node) and condition.op == "call_function" and _number(other) == 0):
        return False
    above = o.schema_name(condition.target) in ("aten::gt", "aten::ge") and condition.args[0] is value
    threshold = _number(condition.args[1]) if above else None
    return threshold is not None and threshold >= 0


def _same_shape(node: fx.Node, other: fx.Node) -> bool:
    return node.meta.get("shape") is not None and tuple(node.meta["shape"]) == tuple(other.meta.get("shape") or ())


#: Operators of recurrent cells.
_CELLS = ("LSTM", "GRU", "QLinearLSTM", "DynamicQuantizeLSTM")
#: What norms, averages and elementwise functions are written with. No movement that mixes up elements.
_NORMALISING_GROUPS = ("activation", "addition", "product", "quotient", "average", "norm", "reduced-product")
_NORMALISING = {
    aten.amax.default, aten.amin.default, aten.max.default, aten.min.default, aten.max.dim, aten.min.dim, getitem,
    aten.maximum.default,
    aten.minimum.default, aten.logsumexp.default, aten.view.default, aten._unsafe_view.default, aten.expand.default,
    aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default, aten.clone.default,
    aten.alias.default, aten._to_copy.default, aten.where.self, aten.masked_fill.Scalar,
}  # fmt: skip
#: Groups of operators that are a kind whatever their arguments are.
_KINDS_BY_GROUP = (
    "activation", "average", "norm", "reduced-product", "maximum", "batch-norm", "layer-norm", "softmax", "movement",
)  # fmt: skip
