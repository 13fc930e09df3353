"""The proof and the provenance as lists of (what, value)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thumbnet.report import units
from thumbnet.report.details import DetailsJson, ResultJson
from thumbnet.results import Metric

Fact = tuple[str, str]

PROOF_LABELS = {
    "images": "Real inputs run on the emulated core",
    "extreme_vectors": "Extreme inputs run on the emulated core",
    "compared_bytes": "Output bytes compared",
    "mismatches": "Bytes that differ",
    "tflm_equal": "tflite-micro gives the same bytes",
    "tflm_note": "Compared with",
    "emulator": "Emulator",
    "core": "Emulated core",
    "compiler": "Compiler",
    "flags": "Compiler flags",
    "cycle_error": "The cycle model may be off by",
    "tflite_sha256": "SHA-256 of model.tflite",
    "model_c_sha256": "SHA-256 of model.c",
    "firmware_sha256": "SHA-256 of the firmware",
}
# Told by the verdict, by Table 1 or by the layer table.
IN_TABLE = (
    "bit_exact",
    "layers",
    "flash_bytes",
    "code_bytes",
    "rodata_bytes",
    "data_bytes",
    "bss_bytes",
    "ram_bytes",
    "arena_bytes",
    "static_bytes",
    "stack_bytes",
    "instructions",
    "instructions_min",
    "cycles",
    "latency_ms",
    "energy_mj",
)
PROVENANCE_LABELS = {
    "started": "Started",
    "wall_seconds": "Took",
    "seed": "Seed",
    "platform": "Machine",
    "model_digest": "SHA-256 of the reference",
    "data_digest": "SHA-256 of the data",
    "tflite_sha256": "SHA-256 of model.tflite",
    "model_c_sha256": "SHA-256 of model.c",
}


def proof_verdict(result: ResultJson, details: DetailsJson) -> tuple[bool, str] | None:
    """(holds, sentence), or None where nothing was verified."""
    proof = {**result.get("proof", {}), **details.get("proof", {})}
    if "bit_exact" not in proof:
        return None
    images = proof.get("images")
    over = f" on {images:,} {Metric.of(result).samples}" if isinstance(images, int) else ""
    extremes = proof.get("extreme_vectors")
    if over and isinstance(extremes, int) and extremes:
        over += f" and {extremes:,} extreme inputs"
    if not proof["bit_exact"]:
        return False, f"The firmware and the integer simulator differ{over}. Do not ship this firmware."
    equal = proof.get("tflm_equal")
    if equal is False:
        return False, f"The integer simulator and tflite-micro running the exported TFLite file differ{over}."
    others = " = tflite-micro running the exported TFLite file" if equal else ""
    return True, f"Firmware on the emulated core = integer simulator{others}, byte for byte{over}."


def proof_facts(result: ResultJson, details: DetailsJson) -> list[Fact]:
    proof = {**result.get("proof", {}), **details.get("proof", {})}
    empty = tuple(k for k, v in proof.items() if v in ([], {}, ""))
    labels = {k: v.replace("images", Metric.of(result).samples) for k, v in PROOF_LABELS.items()}
    return facts(proof, labels, skip=(*IN_TABLE, *empty))


def provenance_facts(result: ResultJson, details: DetailsJson) -> list[Fact]:
    """Command, board, data and its licence, seed, hashes, versions."""
    found: list[Fact] = []
    if details.get("command"):
        found.append(("Command", details["command"]))
    target, data = details.get("target", {}), details.get("data", {})
    if target:
        memory = f"{units.size(target.get('flash_bytes'))} flash, {units.size(target.get('ram_bytes'))} RAM"
        board = ", ".join(filter(None, (target.get("title") or target.get("name"), target.get("core"))))
        found.append(("Board", f"{board}, {units.frequency(target.get('clock_hz'))}, {memory}"))
    if data:
        parts = ((n, data.get(n)) for n in ("train", "val", "test"))
        counts = ", ".join(f"{v:,} {n}" for n, v in parts if isinstance(v, int))
        found.append(
            (
                "Data",
                f"{data.get('name', '')} ({counts} {Metric.of(result).samples})" if counts else data.get("name", ""),
            )
        )
        if data.get("licence"):
            found.append(("Licence of the data", data["licence"]))
    a = result.get("agreement")
    if a:
        found.append(
            (
                "Imported reference against its own framework",
                f"{a['runtime']}: differs by {a['difference']:.2g} at most ({a['tolerance']:.2g} tolerated), on "
                f"{a['random']:,} random and {a['real']:,} real inputs",
            )
        )
    own = {k: v for k in ("seed", "wall_seconds") if (v := result.get(k)) is not None}
    if data.get("digest"):
        own["data_digest"] = data["digest"]
    provenance = {**own, **details.get("provenance", {})}
    versions = provenance.pop("versions", None) or result.get("versions", {})
    found += facts(provenance, PROVENANCE_LABELS, skip=("command",) if details.get("command") else ())
    if isinstance(versions, Mapping) and versions:
        found.append(("Versions", ", ".join(f"{k} {v}" for k, v in versions.items())))
    return found


def facts(values: Mapping[str, Any], labels: Mapping[str, str], skip: tuple[str, ...] = ()) -> list[Fact]:
    """Known keys in the order of `labels`, then the others under their own names; None is left out."""
    order = [*(k for k in labels if k in values), *(k for k in values if k not in labels)]
    named = ((k, values[k]) for k in order if k not in skip and values[k] is not None)
    return [(labels.get(k, k.replace("_", " ").capitalize()), _said(k, v)) for k, v in named]


def _said(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("seconds") and isinstance(value, int | float):
        return units.duration(value)
    if key.endswith("error") and isinstance(value, float):
        return f"±{units.NBSP}{100 * value:.0f}{units.NBSP}%"
    if key.endswith("bytes") and isinstance(value, int):
        return units.exact(value)
    if isinstance(value, int) and key != "seed":
        return units.exact(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_said(str(k), v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_said(key, v) for v in value)
    return str(value)
