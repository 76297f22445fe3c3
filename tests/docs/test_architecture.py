"""The picture of the floors shows every room once, nothing over anything else, and no arrow that points up."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest

from docs import architecture
from docs.layers import Room

_NS = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def svg() -> ET.Element:
    return ET.fromstring(architecture.picture())


def test_every_room_that_stands_is_drawn_once(svg: ET.Element) -> None:
    names = [text.text for text in svg.iter(f"{_NS}text") if text.get("font-weight") == "bold"]
    assert names == [room.name for room in architecture.house().rooms]


def test_no_box_lies_over_another(svg: ET.Element) -> None:
    boxes = [
        tuple(float(box.get(key, "")) for key in ("x", "y", "width", "height"))
        for box in svg.iter(f"{_NS}rect")
        if box.get("rx")
    ]
    for (ax, ay, aw, ah), (bx, by, bw, bh) in itertools.combinations(boxes, 2):
        assert ax + aw <= bx or bx + bw <= ax or ay + ah <= by or by + bh <= ay


def test_trunks_in_a_lane_do_not_meet() -> None:
    made = architecture.house()
    plan = architecture._Plan(made, list(architecture._unimplied(made)))
    for one, other in itertools.combinations(plan.trunks, 2):
        if one[1] == other[1] and plan.lanes[one] == plan.lanes[other]:
            (a, b), (c, d) = sorted([plan._span(one), plan._span(other)])
            assert a < b < c < d


def test_an_arrow_that_others_imply_is_left_out() -> None:
    rooms = [Room(name, (), "", floor) for floor, name in enumerate("abcd")]
    made = architecture.House(rooms, dict.fromkeys("abcd", 1), {"a": ["b", "c", "d"], "b": ["c"], "c": [], "d": []})
    assert list(architecture._unimplied(made)) == [("a", "b"), ("a", "d"), ("b", "c")]


def test_only_counts_of_lines_may_be_old() -> None:
    text = architecture.page()
    assert architecture.same(text, text.replace("≈ 1,200", "≈ 1,300"))
    assert not architecture.same(text, text.replace("| cli |", "| command line |"))
