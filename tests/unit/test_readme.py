"""The README's figures are those of the benchmark's file, and its commands exist."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command

from thumbnet.cli import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


def test_the_demo_table_is_made_from_the_measured_figures() -> None:
    demo = benchmark("demo")
    shown = README.split(demo.BEGIN + "\n")[1].split(demo.END)[0].strip()
    assert shown == demo.table(json.loads(demo.OUT.read_text()))


def test_the_compilers_table_is_made_from_the_measured_figures() -> None:
    firmware = benchmark("firmware")
    shown = (ROOT / "docs" / "benchmarks.md").read_text().split(firmware.BEGIN + "\n")[1].split(firmware.END)[0].strip()
    assert shown == firmware.table(json.loads((firmware.RESULTS / "firmware.json").read_text())["runs"])


def test_the_page_of_interoperability_is_made_from_the_measured_figures() -> None:
    pytest.importorskip("onnx", reason="needs the extra 'onnx'")
    interop = benchmark("interop")
    figures = json.loads((ROOT / "benchmarks" / "results" / "interop.json").read_text())["figures"]
    assert (ROOT / "docs" / "interop.md").read_text() == interop.markdown(figures)


def test_the_commands_exist() -> None:
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"^thumbnet (\w+)", README, re.MULTILINE))
    assert named
    assert named <= commands


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!https?:)[^)#]+)", README))
def test_the_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()
