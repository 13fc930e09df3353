"""Models that are none, or that do not fit the data."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run


class Bomb:
    """Unpickling this leaves a file."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return _touch, ("exploded",)


def _touch(name: str) -> None:
    Path(name).touch()


def test_a_model_that_does_not_exist(thumbnet: Run, images: Path) -> None:
    outcome = thumbnet("optimize", "nothing.pt2", images)
    assert outcome.code == 3
    assert "nothing.pt2" in outcome.error


@pytest.mark.parametrize("name", ["model.pt2", "model.pth", "model.json", "model.xyz"])
@pytest.mark.parametrize("content", [b"not a model at all", b"", pickle.dumps(Bomb())])
def test_a_file_that_is_no_model_is_named_and_never_unpickled(
    thumbnet: Run, images: Path, name: str, content: bytes
) -> None:
    Path(name).write_bytes(content)
    outcome = thumbnet("optimize", name, images)
    assert outcome.code == 3
    assert name in outcome.error
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("no_such_module:Net", "no_such_module"),
        ("models:no_such_name", "no_such_name"),
        ("models:text", "str"),
        ("models:Unsupported", "fft"),
    ],
)
def test_a_factory_that_makes_nothing_usable(thumbnet: Run, images: Path, model: str, says: str) -> None:
    outcome = thumbnet("optimize", model, images, "--input-size", "12x12")
    assert outcome.code == 3
    assert says in outcome.error


def test_a_size_the_network_cannot_take(thumbnet: Run, images: Path) -> None:
    assert thumbnet("optimize", "models:Fixed", images, "--input-size", "20x20").code == 3


def test_a_module_without_a_size_asks_for_one(thumbnet: Run, images: Path) -> None:
    outcome = thumbnet("optimize", "models:Small", images)
    assert outcome.code == 3
    assert "size" in outcome.error or "shape" in outcome.error


def test_another_number_of_classes_than_the_data_has(thumbnet: Run, images: Path) -> None:
    outcome = thumbnet("optimize", "models:three_classes", images, "--input-size", "12x12")
    assert outcome.code == 4
    assert "3 classes" in outcome.error
    assert "bad, good" in outcome.error


@pytest.mark.parametrize("command", ["profile", "optimize"])
def test_weights_of_another_network(thumbnet: Run, images: Path, command: str) -> None:
    import torch

    torch.save({"other": torch.zeros(3)}, "w.pt")
    data = [images] if command == "optimize" else []
    extra = ["--channels", "1"] if command == "profile" else []
    outcome = thumbnet(command, "models:Small", *data, "--input-size", "12x12", "--weights", "w.pt", *extra)
    assert outcome.code == 3
    assert "w.pt" in outcome.error


def test_profile_of_nothing(thumbnet: Run, here: Path) -> None:
    outcome = thumbnet("profile", "nothing.pt2")
    assert outcome.code == 3
    assert "nothing.pt2" in outcome.error


def test_a_float_onnx_model_is_told_how_to_be_quantized(thumbnet: Run, here: Path) -> None:
    cases = pytest.importorskip("onnx_cases", reason="ONNX is optional")
    network = cases.Network([1, 3])
    network.op("Relu", "x")
    Path("float.onnx").write_bytes(network.model().SerializeToString())
    for command in ("compile", "profile"):
        outcome = thumbnet(command, "float.onnx")
        assert outcome.code == 3
        assert "float.onnx is a float model" in outcome.error
        assert "quantize_static" in outcome.error
        assert "thumbnet optimize" in outcome.error
