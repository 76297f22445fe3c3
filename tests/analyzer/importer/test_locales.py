"""Locales that this machine lacks: another one where it changes case alike, and the file's own where none does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.importer.locales import _known, use_known_locales

needs_neutral = pytest.mark.skipif(not _known("C.UTF-8"), reason="this machine has no neutral locale")


def normalizer(locale: str | None) -> onnx.ModelProto:
    """A model that makes text small."""
    node = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER", is_case_sensitive=1)
    if locale is not None:
        node.attribute.append(helper.make_attribute("locale", locale))
    text = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in "xy"]
    graph = helper.make_graph([node], "small", text[:1], text[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@needs_neutral
@pytest.mark.parametrize("locale", ["en_US", "en_ZZ", None])
def test_english_is_replaced_where_it_is_missing(locale: str | None) -> None:
    proto = normalizer(locale)
    before = proto.SerializeToString()
    model = analyzer.load(proto, "cpu")
    assert model.predict(np.array(["ÄÖ Straße", "I"]))["y"].tolist() == ["ÄÖ Straße".lower(), "i"]
    assert proto.SerializeToString() == before
    replaced = [warning for warning in model.loaded.warnings if "locale" in warning]
    assert len(replaced) == (not _known(locale or "en_US")) == model.loaded.repaired


def test_a_locale_that_nothing_stands_in_for_is_named() -> None:
    with pytest.raises(analyzer.InputError, match="tr_ZZ") as caught:
        analyzer.load(normalizer("tr_ZZ"), "cpu").predict(np.array(["I"]))
    assert caught.value.code == "runtime.load_failed"


def test_a_locale_that_is_here_stays() -> None:
    proto = normalizer("C")
    before = proto.SerializeToString()
    assert use_known_locales(proto) == [] and proto.SerializeToString() == before
    assert not analyzer.load(proto, "cpu").loaded.repaired
