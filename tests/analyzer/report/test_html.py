"""The page: self-contained, inert, complete, and alive in a real browser."""

from __future__ import annotations

import ast
import base64
import hashlib
import html as stdlib_html
import io
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import analyzer.report
from analyzer.report import ModelFacts, Panel, Sample, render_report, write_report
from analyzer.report.cards import card, section, word_class
from analyzer.report.scale import fit_scale
from tests.analyzer.report.pages import Page, chromium
from tests.analyzer.report.records import FACTS, image_sample, panel, samples_of_every_kind


def _render(**more: str) -> str:
    return render_report(FACTS, samples_of_every_kind(), "2026-05-04 12:30 UTC", **more)


def test_page_is_well_formed_and_loads_nothing() -> None:
    source = _render()
    page = Page(source)
    assert page.open == []
    stripped = re.sub(r"base64,[A-Za-z0-9+/=]+", "", source)
    assert not re.search(r"https?:|//[a-z]|@import|javascript:|file:", stripped, re.IGNORECASE)
    assert not page.of("script")
    assert not page.of("link")
    images = page.of("img")
    assert images
    for attrs in (*images, *page.of("source")):
        address = attrs.get("src") or attrs.get("srcset") or ""
        form, content = re.fullmatch(r"data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)", address).groups()  # type: ignore[union-attr]
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as opened:
            opened.load()
            assert opened.format == form.upper()
    for attrs in images:
        assert attrs["alt"]
        assert int(attrs["width"] or 0) > 0
    assert set(re.findall(r"url\((.{0,22})", source)) <= {"data:image/png;base64,", "data:image/jpeg;base64"}


def test_policy_allows_exactly_this_style_sheet() -> None:
    source = _render()
    style = source.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(a["content"] for a in Page(source).of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert f"style-src 'sha256-{digest}';" in policy
    assert not any("style" in attrs for _, attrs in Page(source).tags), "the policy would block it"


def test_every_fact_is_there() -> None:
    page = Page(_render(command="onnxplain explain net.onnx cat.png -m lrp"))
    text = page.text()
    for word in (
        "net.onnx", "4.96 MB", "pytorch 2.13", "ai.onnx 20, ai.onnx.ml 3", "1 235 496 parameters", "5 nodes",
        "float32 [1, 3, 8, 8]", "float32 [1, 10]", "A small network.", "Apache-2.0", "2026-05-04 12:30 UTC",
        "onnxplain explain net.onnx cat.png -m lrp", "sha256 0123456789ab", "10 explanations of 5 samples",
    ):  # fmt: skip
        assert word in text, word
    assert any(attrs.get("title") == FACTS.sha256 for _, attrs in page.tags)
    assert "cat 70.0 %" in text
    assert [len(page.of(tag)) for tag in ("h1", "h2", "article")] == [1, 5, 10]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    targets = {attrs["href"] for attrs in page.of("a")}
    assert targets <= {f"#{each}" for each in ids}


def test_classes_in_the_page_have_a_style_and_the_other_way_round() -> None:
    source = _render()
    style = source.partition("<style>")[2].partition("</style>")[0]
    used = {name for _, attrs in Page(source).tags for name in (attrs.get("class") or "").split()}
    styled = set(re.findall(r"\.([a-z][a-z0-9-]*)", re.sub(r"url\([^)]*\)|/\*.*?\*/", "", style)))
    plain = {"sample", "card", "image", "feature-list"}  # carry meaning, need no rule of their own
    assert used - styled - plain == set()
    hand_written = {name for name in styled if not re.fullmatch(r"d[pn]\d+|l\d+|nan", name)}
    assert hand_written - used - {"neg", "fill"} == set()


EVIL = (
    "<script>document.title='owned'</script>\"onerror=\"document.title='owned'\" x='<img src=q onerror=alert(1)>"
    "</style></title><!-- {{ 7*7 }} \x1b[31mred\x1b[0m \u202eevil\u2066 \ud800"
)


def _hostile() -> tuple[ModelFacts, list[tuple[Sample, list[Panel]]]]:
    facts = ModelFacts(
        path=f"dir/{EVIL}", sha256=EVIL, size_bytes=1, producer=EVIL, ir_version=8, opsets={EVIL: 1},
        inputs=((EVIL, EVIL),), outputs=((EVIL, EVIL),), operators={EVIL: 2}, parameters=0, description=EVIL,
        metadata={EVIL: EVIL},
    )  # fmt: skip
    made = []
    for sample, panels in samples_of_every_kind():
        names = (EVIL,) * (sample.values.size if sample.kind in {"tokens", "table"} else 2)
        evil = Sample(
            EVIL, sample.kind, sample.image, sample.values, sample.layout, names, ((EVIL, 0.5), (EVIL, np.nan))
        )
        changed = [
            Panel(EVIL, {EVIL: EVIL}, p.attribution, p.signed, EVIL, np.inf, "value", 1.0, EVIL, (EVIL,))
            for p in panels
        ]
        made.append((evil, changed))
    return facts, made


def test_hostile_strings_are_inert() -> None:
    facts, samples = _hostile()
    source = render_report(facts, samples, EVIL, EVIL)
    page = Page(source)
    assert page.open == []
    assert not page.of("script")
    assert page.comments == []
    assert "{{ 7*7 }}" in page.text(), "shown, not computed"
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")], tag
        assert set(attrs) <= {
            "alt", "aria-hidden", "aria-label", "aria-labelledby", "charset", "checked", "class", "content", "for",
            "height", "href", "http-equiv", "id", "lang", "media", "name", "rx", "src", "srcset", "title", "type",
            "width", "x", "x1", "x2", "y", "y1", "y2",
        }, (tag, attrs)  # fmt: skip
    assert {attrs["src"].partition(",")[0] for attrs in page.of("img") if attrs["src"]} <= {
        "data:image/png;base64",
        "data:image/jpeg;base64",
    }
    assert not {"\x1b", "\u202e", "\u2066", "\ud800"} & set(source)
    assert stdlib_html.escape("<script>document.title=", quote=False) in source
    source.encode("utf-8")


def test_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, FACTS, samples_of_every_kind(), "now", None)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_empty_reports_are_pages_too() -> None:
    assert "no samples" in Page(render_report(FACTS, [], "now")).text()
    page = Page(render_report(FACTS, [(image_sample(), [])], "now"))
    assert "no explanation of this sample" in page.text()
    assert not page.of("fieldset"), "nothing to switch"


def test_long_lists_are_counted() -> None:
    facts = ModelFacts(
        "m.onnx", "0", 1, "", 8, {}, tuple((f"i{n}", "f") for n in range(100)), (), {}, 0, "",
        {str(n): "v" * 10_000 for n in range(70)},
    )  # fmt: skip
    source = render_report(facts, [], "now")
    text = Page(source).text()
    assert "and 36 more" in text
    assert "and 6 more" in text
    assert "not named" in text
    assert len(source) < 120_000


def test_map_of_an_image_card_has_the_colours_of_its_values() -> None:
    values = np.zeros((3, 8, 8))
    values[0, 2, 5], values[0, 6, 1] = 1, -1
    drawn_card = card(image_sample(), panel(values))
    assert drawn_card.map is not None
    assert drawn_card.legend is not None
    with Image.open(io.BytesIO(base64.b64decode(drawn_card.map.uri.partition(",")[2]))) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    step = pixels.shape[0] // 8
    red, blue = pixels[2 * step + 3, 5 * step + 3], pixels[6 * step + 3, step + 3]
    assert red[0] - red[2] > 100
    assert blue[2] - blue[0] > 100
    assert drawn_card.legend.ends == ("−1", "0", "1")
    assert "colours end at ±1" in drawn_card.map.alt


def test_large_maps_keep_a_palette_only_while_unscaled() -> None:
    for side in (224, 900):
        drawn_card = card(image_sample(side, side), panel(np.random.default_rng(0).normal(size=(side, side))))
        assert drawn_card.map is not None
        with Image.open(io.BytesIO(base64.b64decode(drawn_card.map.uri.partition(",")[2]))) as opened:
            assert opened.mode == ("P" if side == 224 else "RGB")
            assert opened.size == (drawn_card.map.width, drawn_card.map.height)
            assert max(opened.size) <= 640


def test_bars_share_one_zero() -> None:
    sample = Sample("r", "table", None, np.arange(3.0), None, ("a", "b", "c"))
    drawn_card = card(sample, panel(np.array([3.0, -1.0, np.nan])))
    assert drawn_card.zero == 25
    assert [(bar.start, bar.length, bar.css) for bar in drawn_card.bars] == [
        (25, 75, "pos"),
        (0, 25, "neg"),
        (25, 0, "pos"),
    ]
    assert [bar.text for bar in drawn_card.bars] == ["3", "−1", "not a number"]
    plain = card(sample, panel(np.array([3.0, 1.0, 0.0]), signed=False))
    assert {bar.css for bar in plain.bars} == {"size"}


def test_words_are_classed_by_strength() -> None:
    scale = fit_scale(np.array([2.0, -1.0, np.nan]), signed=True, percentile=100)
    positions = scale.position(np.array([2.0, -1.0, 0.0, np.nan]))
    assert [word_class(float(position), "diverging") for position in positions] == ["dp32", "dn16", "dp0", "nan"]
    assert word_class(0.5, "light") == "l16"


def test_importing_the_package_is_light() -> None:
    code = "import sys, analyzer.report; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"matplotlib", "PIL", "jinja2", "torch", "onnx", "onnxruntime", "skimage", "sklearn"}


def test_bars_of_the_largest_outputs_start_at_a_common_zero() -> None:
    sample = replace(image_sample(), top=(("cat", 3.0), ("dog", -1.0), ("eel", -2.0)), top_kind="logit")
    found = section(1, sample, [])
    assert found.top_zero == pytest.approx(40)
    assert [(bar.start, bar.length, bar.css) for bar in found.top] == [
        (pytest.approx(40), pytest.approx(60), "fill"),
        (pytest.approx(20), pytest.approx(20), "neg"),
        (pytest.approx(0), pytest.approx(40), "neg"),
    ]
    below = section(1, replace(sample, top=(("cat", -1.0), ("dog", -4.0))), [])
    assert below.top_zero == pytest.approx(100), "all of them negative: every bar ends at zero"
    shares = section(1, replace(sample, top=(("cat", 0.25),), top_kind="probability"), [])
    assert (shares.top[0].length, shares.top_zero) == (pytest.approx(25), 0)


def test_a_single_value_is_no_bar_of_a_class() -> None:
    sample = replace(image_sample(), top=(("output 0", 3.2),), top_kind="value")
    page = render_report(FACTS, [(sample, [])], "now")
    assert "3.2" in page and 'class="top"' not in page


def test_nothing_is_said_about_a_file_that_is_not_at_hand() -> None:
    facts = ModelFacts("net.onnx", "ab" * 32, 0, "", 0, {}, (("x", "float32 [1, 3]"),), (), {}, 0)
    text = Page(render_report(facts, [], "now")).text()
    for wrong in ("0 B", "not named", "IR version", "parameters", "nodes", "Operators", "none"):
        assert wrong not in text, wrong
    assert "ab" * 6 in text


def test_the_package_knows_arrays_and_facts_only() -> None:
    folder = Path(analyzer.report.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert not node.level, path
                names = [node.module or ""]
            for name in names:
                room = name.partition(".")[2].partition(".")[0]
                assert not name.startswith("analyzer") or room in {"errors", "files", "inputs", "report"}, (
                    path.name,
                    name,
                )
                assert name.partition(".")[0] not in {"torch", "onnx", "onnxruntime", "graph_rules", "cli"}
                assert name != "matplotlib.pyplot"


# A real browser


def test_browser_renders_the_page_and_runs_nothing(tmp_path: Path) -> None:
    facts, samples = _hostile()
    path = tmp_path / "report.html"
    write_report(path, facts, samples, "now", EVIL)
    dumped = Page(chromium(tmp_path, "--dump-dom", path.as_uri()))
    assert not dumped.of("script")
    assert len(dumped.of("article")) == 10
    assert len(dumped.of("h2")) == 5
    title = next(text for tag, text in dumped.texts if tag == "title")
    assert title != "owned"
    assert title.endswith("explained")
    assert "<script>document.title='owned'</script>" in dumped.text()


def test_browser_applies_the_style_and_draws_the_map(tmp_path: Path) -> None:
    values = np.ones((1, 8, 8))
    path, shot = tmp_path / "report.html", tmp_path / "shot.png"
    write_report(path, FACTS, [(image_sample(), [panel(values)])], "now", None)
    chromium(tmp_path, f"--screenshot={shot}", "--window-size=1280,1000", path.as_uri())
    with Image.open(shot) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    assert pixels[5, 5].tolist() == [0xFA, 0xF9, 0xF6], "the policy blocked the style sheet"
    red = (pixels[..., 0] - pixels[..., 2] > 80) & (pixels[..., 1] < 90)
    assert red.sum() > 20_000, "the overlay of a map that is all positive is a red square"
