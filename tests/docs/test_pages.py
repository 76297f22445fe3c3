"""The generated pages are what the code says, and the written ones link to what exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from analyzer.evaluation.registry import metrics
from analyzer.inputs.preprocess import PRESETS, Preprocess, load_preprocess
from docs.make import HERE, NOT_TRACED, PAGES, up_to_date

ROOT = HERE.parent


@pytest.mark.parametrize("name", PAGES)
def test_generated_page_is_up_to_date(name: str) -> None:
    assert up_to_date(name), "run `make docs`"


def test_every_standard_operator_is_covered_or_has_its_reason() -> None:
    assert "no function yet" not in PAGES["operators.md"]()
    for name in NOT_TRACED:
        assert f"| {name} |" in PAGES["operators.md"]()


def test_the_page_of_metrics_has_all_that_the_registry_says() -> None:
    page = PAGES["metrics.md"]()
    for info in metrics().values():
        section = page.partition(f"### {info.name}\n")[2].partition("\n#")[0]
        for said in (info.summary, info.direction.capitalize(), info.range, info.cost, info.blind_spot, info.source):
            assert said in section, (info.name, said)
        assert re.findall(r"^\| `(\w+)` ", section, re.MULTILINE) == list(info.parameters)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/architecture.md",
        "docs/how_it_works.md",
        "docs/targets.md",
        "docs/safety.md",
        "docs/compare.md",
        "docs/compile.md",
        "docs/backends.md",
        "docs/detectors.md",
        "docs/evaluate.md",
        "docs/fills.md",
        "docs/inside.md",
        "docs/gate.md",
        "docs/gate_keys.md",
        "docs/judging.md",
        "docs/preprocessing.md",
        "docs/rules.md",
        "models/README.md",
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_examples_of_preprocessing_are_valid_and_name_every_key(tmp_path: Path) -> None:
    text = (HERE / "preprocessing.md").read_text(encoding="utf-8")
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 6
    for at, example in enumerate(examples):
        file = tmp_path / f"{at}.toml"
        file.write_text(example, encoding="utf-8")
        load_preprocess(file)
    for key in Preprocess.model_fields:
        assert re.search(rf"`{key}\b|^{key} = ", text, re.MULTILINE), key
    for name in PRESETS:
        assert f"| `{name}` |" in text, name
    inverted = load_preprocess(tmp_path / "4.toml").fit((1, 1, 28, 28))
    np.testing.assert_allclose(inverted.encode(np.full((28, 28, 3), 255, np.uint8)), 0, atol=1e-6)


def test_readme_gives_the_commands_that_the_gate_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("make test", "make demo"):
        assert command in readme
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)
    assert "make test" in gate


def test_the_newest_release_of_the_changelog_is_the_version() -> None:
    releases = re.findall(r"^## (\d\S*) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert releases[0][0] == project["version"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for _, date in releases)
    assert [date for _, date in releases] == sorted((date for _, date in releases), reverse=True)


def test_nothing_needs_the_reference_folder() -> None:
    for path in Path(ROOT / "analyzer").rglob("*.py"):
        assert "/shared" not in path.read_text(encoding="utf-8"), path


def test_the_page_of_rules_names_every_rule_and_its_examples_can_be_read() -> None:
    from graph_rules.rule_parser import RULES, parse_rule
    from graph_rules.selectors import Selector

    text = (HERE / "rules.md").read_text(encoding="utf-8")
    table = text[text.index("## Rules\n") :]
    assert {name for name in RULES if f"`{name}" not in table} == set()
    pairs = re.findall(r'^ *"?([^"=\n]+?)"? *[:=] "([a-z0-9-]+:[^"]+)"', text, re.MULTILINE)
    assert len(pairs) >= 6
    for key, rule in pairs:
        assert Selector.of(key).text == key
        assert str(parse_rule(rule)) == rule
