"""JUnit XML: one test case for each check, as CI systems read it.

A check that blocks is a failure, or an error where it broke down; one that doesn't block is told in ``system-out`` whatever it
found, so that a system that reads this file decides as the gate does.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from analyzer.gate.formats.wording import facts, message, model_name, statements, verdict_line
from analyzer.gate.outcome import CheckResult, GateResult

#: What XML 1.0 has no way to write.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(result: GateResult, images: int = 0) -> str:
    """The result as JUnit XML."""
    total = sum(check.seconds for check in result.checks)
    suite = ET.Element("testsuite", {"name": _text(model_name(result)), "time": _seconds(total)})
    properties = ET.SubElement(suite, "properties")
    for name, value in [("verdict", result.status), *facts(result)]:
        ET.SubElement(properties, "property", {"name": name, "value": _text(value)})
    for check in result.checks:
        _case(suite, check)
    if result.status != "pass" and not any(check.blocks for check in result.checks):
        case = ET.SubElement(suite, "testcase", {"name": "verdict", "classname": "gate", "time": "0.000"})
        ET.SubElement(case, "failure", {"type": f"gate.{result.status}", "message": _text(verdict_line(result))})
    counts = {
        "tests": len(suite.findall("testcase")), "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")), "skipped": len(suite.findall("testcase/skipped")),
    }  # fmt: skip
    suite.attrib |= {name: str(count) for name, count in counts.items()}
    root = ET.Element("testsuites", {"name": "onnxplain gate"} | suite.attrib)
    root.set("name", "onnxplain gate")
    del root.attrib["skipped"]  # only suites have it
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _case(suite: ET.Element, check: CheckResult) -> None:
    attributes = {"name": _text(check.id), "classname": f"gate.{check.kind}", "time": _seconds(check.seconds)}
    case = ET.SubElement(suite, "testcase", attributes)
    why = _text(message(check))
    lines = [f"{check.status}: {why}", *map(_text, statements(check))]
    if check.blocks:
        kind = "error" if check.status == "error" else "failure"
        ET.SubElement(case, kind, {"type": check.code, "message": why}).text = "\n".join(lines)
    elif check.status == "skipped":
        ET.SubElement(case, "skipped", {"message": why})
    else:
        ET.SubElement(case, "system-out").text = "\n".join(lines)


def _text(text: str) -> str:
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)


def _seconds(value: float) -> str:
    return f"{value:.3f}"
