"""A command line in this process, data that is fine, and a model that is fine: each test spoils one of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import Outcome, Run
from PIL import Image

MODELS = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, classes=2, size=None):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))

class Fixed(Small):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16 * 3 * 3, 2)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))

class Unsupported(Small):
    def forward(self, x):
        return super().forward(torch.fft.rfft(x).abs())

def three_classes():
    return Small(3)

def text():
    return "no module"
"""


@pytest.fixture
def thumbnet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line; every outcome is one sentence (with a way out) and no traceback."""
    from thumbnet.cli import main

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["thumbnet", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        error = capsys.readouterr().err
        assert "Traceback" not in error, error
        last = error.rstrip().splitlines()[-1] if error.strip() else ""
        code = exit_.value.code
        assert isinstance(code, int)
        if code:
            assert last.startswith("Error: "), error
            assert last.endswith((".", ")", "?")), "a sentence"
            assert error.count("Error: ") == 1
        return Outcome(code, last)

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with `models.py`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "models", raising=False)
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


@pytest.fixture
def images(here: Path) -> Path:
    """`images/{train,val,test}/{good,bad}` with four grey images each."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in ("bad", "good"):
            folder = here / "images" / split / name
            folder.mkdir(parents=True)
            for k in range(4):
                pixels = rng.integers(0, 256, (12, 12), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
    return Path("images")
