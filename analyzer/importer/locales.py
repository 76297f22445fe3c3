"""Locales by which a model changes the case of text, where this machine lacks them.

Belongs here: finding a locale that does the same. Not here: what nodes compute, running a model.

onnxruntime can't make a session with a StringNormalizer whose locale isn't installed; the standard's own default, ``en_US``, is
missing in most containers.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import ModelProto, NodeProto, TensorProto, helper

from analyzer.importer.subgraphs import with_subgraphs

#: The standard's default, and a locale that every current C library has and that changes case in the same way.
_DEFAULT, _NEUTRAL = "en_US", "C.UTF-8"


def use_known_locales(model: ModelProto) -> list[str]:
    """Put a locale that onnxruntime finds here in place of one that it doesn't, where that gives the same text.

    A locale is found under its name, with ``.UTF-8`` behind it, or, for English, as the neutral one: both change case as
    Unicode says. What has no such likeness stays as it is, and onnxruntime will name it.

    Returns
    -------
    list
        What was replaced, a line for each locale; the model is changed only where this isn't empty.
    """
    chosen: dict[str, str] = {}
    for node in _normalizers(model):
        entry = next((entry for entry in node.attribute if entry.name == "locale"), None)
        wanted = entry.s.decode("utf-8", "replace") if entry is not None else _DEFAULT
        if wanted not in chosen:
            likely = [wanted, f"{wanted}.UTF-8", *([_NEUTRAL] if wanted.startswith("en_") else [])]
            chosen[wanted] = next((name for name in likely if _known(name)), wanted)
        if chosen[wanted] != wanted:
            if entry is not None:
                node.attribute.remove(entry)
            node.attribute.append(helper.make_attribute("locale", chosen[wanted]))
    return [
        f"the locale {wanted!r} isn't installed here: text changes case by {found!r}"
        for wanted, found in chosen.items()
        if found != wanted
    ]


def _normalizers(model: ModelProto) -> Iterator[NodeProto]:
    for body in (model.graph, *model.functions):
        for graph in with_subgraphs(body):
            yield from (node for node in graph.node if node.op_type == "StringNormalizer")


def _known(locale: str) -> bool:
    """Whether onnxruntime can change case by a locale on this machine."""
    import onnxruntime

    node = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER", locale=locale)
    text = [helper.make_tensor_value_info(name, TensorProto.STRING, [1]) for name in "xy"]
    graph = helper.make_graph([node], "locale", text[:1], text[1:])
    probe = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's own kinds of error: whatever they are, this locale is of no use
        return False
    return True
