"""What every page has in common: it is one file that loads nothing and runs nothing.

Belongs here: putting values and style into a template. Not here: any page's content.

A page's content security policy allows embedded pictures and the one style sheet whose hash it names. Strings reach it through
jinja2's autoescape only.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


HERE = "analyzer.report"


def render(template: str, style: str, package: str = HERE, **values: Any) -> str:
    """A page from a template of this package, or of another that may use this one's macros.

    Parameters
    ----------
    style
        The whole style sheet: our own words, numbers and base64 only, for it isn't escaped. The template puts it where
        ``style`` stands, and its hash where ``style_hash`` stands.
    """
    from markupsafe import Markup

    style = style.replace("\r", "")
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    page: str = (
        _environment(package)
        .get_template(template)
        .render(style=Markup(style), style_hash=f"sha256-{digest}", **values)
    )
    return page


def resource(name: str, package: str = HERE) -> str:
    """The text of a file of a package, or of this one where that has none of that name."""
    own = resources.files(package) / name
    return (own if own.is_file() else resources.files(HERE) / name).read_text(encoding="utf-8")


@functools.cache
def _environment(package: str) -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(lambda name: resource(name, package)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
