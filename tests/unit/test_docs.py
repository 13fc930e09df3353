"""What the pages under docs/ name exists, and what they show compiles."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from firmware_networks import firmware, network

from thumbnet.data import Batch
from thumbnet.data.tasks.custom import Custom, own_metric

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FIRMWARE = (ROOT / "docs/firmware.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_tests_and_links_exist(page: Path) -> None:
    text = page.read_text()
    for path, name in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", text):
        assert (ROOT / path).is_file(), path
        assert f"def {name}" in (ROOT / path).read_text()
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)", text):
        assert (page.parent / target).exists(), target


def test_examples_of_the_firmware_page_compile(tmp_path: Path) -> None:
    firmware(network("mobile"), "generic", tmp_path / "first")
    blocks = re.findall(r"```(c|cpp)\n(.*?)```", FIRMWARE, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["c", "cpp", "c"]
    for kind, text in blocks:
        standard = "-std=c99" if kind == "c" else "-std=c++11"
        found = shutil.which("cc" if kind == "c" else "c++")
        compiler = [found] if found else [sys.executable, "-m", "ziglang", "cc" if kind == "c" else "c++"]
        (tmp_path / f"example.{kind}").write_text(text)
        flags = [standard, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-Ifirst", "-I."]
        done = subprocess.run([*compiler, *flags, f"example.{kind}"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_detector_of_the_tasks_page_learns_and_is_judged() -> None:
    text = (ROOT / "docs/tasks.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def loss" in block)
    names: dict[str, Any] = {}
    exec(code, names)  # our own page
    there = (torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0)) > 0.8).float()
    targets = {"boxes": torch.zeros(8, 4, 6, 6), "objectness": there}
    outputs = torch.zeros(8, 4, 6, 6, requires_grad=True), 20 * there - 10
    task = own_metric(Custom(), names["loss"], names["f1"], ("boxes", "objectness"))
    value = task.loss(Batch(outputs, (targets["boxes"], there)))
    assert value.item() == pytest.approx(0, abs=1e-3)
    given = tuple(o.detach().numpy() for o in outputs)
    assert task.score((targets["boxes"].numpy(), there.numpy()), given) == 100
    assert task.metric.name == "F1 of cells"
