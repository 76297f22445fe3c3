"""The reports of a run: each format is a short file with ``write(result, images) -> str``.

Belongs here: which formats there are. Not here: what a run found (``outcome``), where files go (``evidence``).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from analyzer.gate.outcome import GateResult


@dataclass(frozen=True)
class Format:
    """A format of reports.

    Attributes
    ----------
    file
        What the file is called.
    module
        Where its ``write`` is; it is loaded when it is used.
    """

    file: str
    module: str

    def write(self, result: GateResult, images: int = 24) -> str:
        """The report as text; ``images`` limits the pictures of formats that have any."""
        text: str = importlib.import_module(f"{__name__}.{self.module}").write(result, images)
        return text


#: Name in a policy -> format.
FORMATS = {
    "json": Format("result.json", "result_json"),
    "junit": Format("junit.xml", "junit_xml"),
    "sarif": Format("result.sarif", "sarif"),
    "html": Format("report.html", "page"),
    "md": Format("summary.md", "markdown"),
}
