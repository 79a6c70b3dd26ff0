"""The page that shows a design; reads what the design wrote."""

from netsmith.report.page import write_report

__all__ = ["write_report"]
