"""Writes the report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from thumbnet.files import write_text_atomic
from thumbnet.report import facts, front, insight, sections
from thumbnet.report.comparison import comparison, limits_of
from thumbnet.report.details import DetailsJson, ResultJson, read_run
from thumbnet.report.figures import op_legend
from thumbnet.results import Metric
from thumbnet.version import __version__


def write_report(run_dir: Path) -> Path:
    """Reads `result.json` and, if present, `details.json` of a run; writes and returns its `report.html`.

    The same files give the same bytes. Raises `RunError` where there is no result, `ThumbnetError` where a
    file cannot be read or written.
    """
    result, details = read_run(run_dir)
    path = run_dir / "report.html"
    write_text_atomic(path, render(result, details))
    return path


def render(result: ResultJson, details: DetailsJson) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_context(result, details))


def _context(result: ResultJson, details: DetailsJson) -> dict[str, Any]:
    metric = Metric.of(result)
    return {
        "metric": metric,
        "samples_name": metric.samples,
        "version": __version__,
        "style": Markup(_resource("report.css")),
        "title": details.get("title") or "Thumbnet report",
        "headline": sections.headline(result, details),
        "limits": limits_of(result, details),
        "rows": comparison(result, details),
        "paretos": sections.pareto_figures(result, details),
        "trials": sections.trial_rows(details, metric),
        "trial_count": len(details.get("trials", [])),
        "finalists": sections.finalist_rows(details, metric),
        "front": front.front_of(result, details, metric),
        "why": insight.why_of(details, metric),
        "robustness": insight.robustness_of(result, metric),
        "layers": sections.layers_of(details),
        "op_legend": op_legend(),
        "arena": sections.arena_of(details.get("arena"), details),
        "lower_bound": details.get("arena", {}).get("lower_bound_bytes"),
        "arena_bytes": details.get("arena", {}).get("arena_bytes"),
        "training": sections.training_of(details, metric),
        "confusion": sections.confusion_of(details),
        "samples": sections.samples_of(details),
        "verdict": facts.proof_verdict(result, details),
        "proof": facts.proof_facts(result, details),
        "provenance": facts.provenance_facts(result, details),
        "story": sections.story_of(details),
        "moves": details.get("moves", []),
        "licence": details.get("data", {}).get("licence"),
    }


def _resource(name: str) -> str:
    return resources.files("thumbnet.report").joinpath(name).read_text(encoding="utf-8")
