"""Markdown: a summary for a pull request or ``$GITHUB_STEP_SUMMARY``: verdict, table, why.

Foreign text is escaped so that it makes no markup, no link and no mention.
"""

from __future__ import annotations

import re

from analyzer.gate.decide import told
from analyzer.gate.formats.wording import facts, message, model_name, statements, unreadable, verdict_line, worst_parts
from analyzer.gate.outcome import CheckResult, GateResult
from analyzer.report.text import clean

_MARKS = {"pass": "✅", "warn": "⚠️", "fail": "❌", "error": "❌", "skipped": "⏭️", "inconclusive": "❔"}
_MARKUP = re.compile(r"[\\`*_{}\[\]<>!|~&@:$^]|^[-+#=\d]")


def write(result: GateResult, images: int = 0) -> str:
    """The result as Markdown."""
    lines = [
        f"## {_MARKS[result.status]} Gate: {_text(model_name(result))}",
        "",
        f"**{_text(verdict_line(result))}**",
        "",
        "| check | status | why |",
        "|---|---|---|",
        *(_row(check) for check in result.checks),
        "",
    ]
    for check in result.checks:
        if check.status != "pass":
            lines += _details(check)
    if result.unreadable:
        lines += [f"{len(result.unreadable)} inputs couldn't be read:", ""]
        lines += [f"- {_text(line)}" for line in unreadable(result)] + [""]
    lines += ["<details><summary>Evidence</summary>", ""]
    lines += [f"- {name}: {_text(value)}" for name, value in facts(result)]
    return "\n".join([*lines, "", "</details>", ""])


def _row(check: CheckResult) -> str:
    mark = f"{_MARKS[check.status]} {check.status}" + ("" if check.required else " (not required)")
    return f"| {_text(check.id)} | {mark} | {_text(message(check))} |"


def _details(check: CheckResult) -> list[str]:
    stated = [f"- {_text(line)}" for line in statements(check)]
    stated += [f"- {_text(told(test))}" for test in worst_parts(check) if not test.holds]
    stated += [f"- {count} left out: {_text(why)}" for why, count in check.outcome.left_out.items()]
    stated += [f"- {_text(shown.id)}: {_text(shown.caption)}" for shown in check.outcome.exhibits[:3]]
    return [f"**{_text(check.id)}**", "", *stated, ""] if stated else []


def _text(text: str) -> str:
    """Text as Markdown shows it: every character that could mean something as a reference."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", clean(text, 600)).replace("www.", "www&#46;")
