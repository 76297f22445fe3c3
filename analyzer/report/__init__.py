"""What people see: pictures of explanations and a self-contained page that compares them.

Belongs here: the records to fill in (``panel``), ``save_picture`` and ``write_report``. Not here: models,
methods, runtimes; this package knows arrays and facts only. matplotlib, Pillow and jinja2 are imported when
something is drawn.
"""

from analyzer.report.html import render_report, write_report
from analyzer.report.panel import ModelFacts, Panel, Sample
from analyzer.report.pictures import draw_picture, save_picture

__all__ = ["ModelFacts", "Panel", "Sample", "draw_picture", "render_report", "save_picture", "write_report"]
