"""The report of a run."""

from thumbnet.report.report import write_report

__all__ = ["write_report"]
