"""Networks of several sizes: a figure and a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from thumbnet.report import units
from thumbnet.report.details import DetailsJson, ResultJson
from thumbnet.report.figures.pareto import Point, pareto
from thumbnet.results import Metric


@dataclass(frozen=True)
class Front:
    figure: Markup
    rows: list[dict[str, str]]
    on: int  # networks that none beats


def front_of(result: ResultJson, details: DetailsJson, metric: Metric) -> Front | None:
    networks = result.get("front", [])
    if not networks:
        return None
    limits: Mapping[str, Any] = details.get("limits", {})
    figure = pareto(
        [_point(n, metric) for n in networks],
        cost="flash",
        limit=limits.get("flash_bytes") if _near(networks, limits.get("flash_bytes")) else None,
        reference=details.get("validation", {}).get("reference"),
        metric=metric,
    )
    return Front(figure, [_row(n, metric) for n in networks], sum(bool(n["undominated"]) for n in networks))


def _near(networks: list[dict[str, Any]], limit: int | None) -> bool:
    """Whether the limit lies where there is something to see: a board's flash may be a hundred times what is needed."""
    return limit is not None and limit <= 2 * max(n["flash_bytes"] for n in networks)


def _point(network: dict[str, Any], metric: Metric) -> Point:
    score = network[f"val_{metric.key}"]
    said = f"{network['id']}: {units.measured(score, metric)}, flash {units.size(network['flash_bytes'])}"
    return Point(network["flash_bytes"], score, True, said, bool(network["chosen"]))


def _row(network: dict[str, Any], metric: Metric) -> dict[str, str]:
    key = metric.key
    return {
        "id": network["id"],
        "flash": units.size(network["flash_bytes"]),
        "ram": units.size(network["ram_bytes"]),
        "macs": units.count(network["macs"]),
        "instructions": units.count(network["instructions"]),
        "val": units.measured(network[f"val_{key}"], metric),
        "val_interval": units.span(network[f"val_{key}_interval"], metric),
        "test": units.measured(network[key], metric),
        "test_interval": units.span(network[f"{key}_interval"], metric),
        "said": "chosen" if network["chosen"] else "" if network["undominated"] else "beaten by another",
    }
