"""The pages: of a design, which reads what the design wrote, of a comparison, of a sweep, and of a latency
model."""

from netsmith.report.comparison import write_comparison
from netsmith.report.design import write_report
from netsmith.report.profile import write_profile
from netsmith.report.sweep import write_sweep

__all__ = ["write_comparison", "write_profile", "write_report", "write_sweep"]
