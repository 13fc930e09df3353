"""`thumbnet check`: what is supported of a network, what is not and what to do, node by node, from every entrance."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

import thumbnet
from thumbnet import cli
from thumbnet.checker import Checked, check
from thumbnet.errors import ModelError, TargetError
from thumbnet.exporters.tflite import to_tflite
from thumbnet.graph.passes import clean
from thumbnet.importers.load import load
from thumbnet.integer.lower import lower

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # Keras's
EXITS = {"tflite", "onnx", "c", "onnx-float", "torch"}
SHAPE = (3, 16, 16)


class Net(nn.Module):
    """What everything takes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))  # type: ignore[no-any-return]


class Refused(Net):
    """Four nodes that nothing takes, one of them with several results, and more behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.GELU(), nn.GroupNorm(2, 8))
        self.steps = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.steps(torch.erf(self.features(x)).flatten(2).transpose(1, 2))
        return self.head(y[:, -1])  # type: ignore[no-any-return]


class NoIntegers(Net):
    """Imports, but the integer network has no such operation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.log_softmax(self.features(x), 1).mean((2, 3)))  # type: ignore[no-any-return]


class Two(Net):
    """Two inputs, the second one of six numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(14, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.features(x).mean((2, 3)), y], 1))  # type: ignore[no-any-return]


class Large(nn.Linear):
    """More weights than an nRF52840 has flash."""

    def __init__(self) -> None:
        super().__init__(2000, 700)


# --- one network from every entrance


def pt2(folder: Path, network: type[nn.Module] = Net) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about the weights of recurrent layers
        program = torch.export.export(network().eval(), (torch.zeros(2, *SHAPE),))
    torch.export.save(program, folder / "net.pt2")
    return folder / "net.pt2"


def onnx(folder: Path, *refused: str) -> Path:
    cases = pytest.importorskip("onnx_cases", reason="ONNX is optional")
    net = cases.Network(("N", *SHAPE))
    x = net.conv("x", 3, 8, 3, 3, strides=[2, 2])
    for op in refused:
        x = net.op(op, x)
    net.dense(net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", x))), 8, 2)
    (folder / "net.onnx").write_bytes(net.model().SerializeToString())
    return folder / "net.onnx"


def keras(folder: Path, *activations: str, suffix: str = "keras") -> Path:
    module = pytest.importorskip("keras_networks", reason="Keras is optional")
    layers = module.keras.layers
    x = module.keras.Input((16, 16, 3))
    y = layers.Conv2D(8, 3, strides=2)(x)
    for name in activations:
        y = layers.Activation(name, name=name)(y)
    y = layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.ReLU()(y)))
    return module.saved(module.keras.Model(x, y), folder / f"net.{suffix}")  # type: ignore[no-any-return]


def tflite(folder: Path, *refused: str) -> Path:
    """Quantized, by our own exporter; refused operators stand between, as far as a file can name them."""
    path = folder / "net.tflite"
    if not refused:
        path.write_bytes(to_tflite(lower(clean(load(Net(), SHAPE)), None)))
        return path
    from tflite_files import Model

    m = Model(1, 4, 4, 2)
    x = m.x
    for op, options in zip(refused, ("GeluOptions", "L2NormOptions"), strict=False):
        y = m.tensor(op.lower(), 1, 4, 4, 2)
        m.operator(op, [x], [y], options)
        x = y
    y = m.tensor("relu", 1, 4, 4, 2)
    m.operator("RELU", [x], [y])
    path.write_bytes(m.bytes())
    return path


SUPPORTED: dict[str, Callable[[Path], Path]] = {
    "pt2": pt2,
    "onnx": onnx,
    "keras": keras,
    "h5": lambda folder: keras(folder, suffix="h5"),
    "tflite": tflite,
}
REFUSED: dict[str, tuple[Callable[[Path], Path], set[str]]] = {
    "pt2": (lambda f: pt2(f, Refused), {"gelu", "group_norm", "erf", "lstm"}),
    "onnx": (lambda f: onnx(f, "Gelu", "Erf", "Softplus"), {"Erf", "Gelu", "Softplus"}),
    "keras": (lambda f: keras(f, "gelu", "mish"), {"Activation"}),
    "tflite": (lambda f: tflite(f, "GELU", "L2_NORMALIZATION"), {"GELU", "L2_NORMALIZATION"}),
}


@pytest.mark.parametrize("entrance", SUPPORTED)
def test_a_supported_network_may_go_everywhere(entrance: str, tmp_path: Path) -> None:
    checked = check(SUPPORTED[entrance](tmp_path), "nrf52840")
    assert checked.ok
    assert not checked.error
    assert checked.nodes
    assert all(n.state == "supported" and not n.reason for n in checked.nodes)
    assert checked.agreement is not None
    assert checked.agreement.difference <= checked.agreement.tolerance
    assert checked.costs is not None
    assert set(checked.exits) == EXITS
    assert not any(checked.exits.values())
    said = "\n".join(checked.lines())
    assert "nodes are supported." in said
    assert "tolerated), on 4 random inputs." in said
    assert "fits as it is" in said
    assert "Can be written as tflite, onnx, c, onnx-float, torch." in said


@pytest.mark.parametrize("entrance", REFUSED)
def test_everything_refused_is_listed_at_once_with_what_to_do(entrance: str, tmp_path: Path) -> None:
    make, ops = REFUSED[entrance]
    checked = check(make(tmp_path))
    assert not checked.ok
    assert {n.op for n in checked.refused} == ops
    assert len(checked.refused) >= 2
    assert all(n.reason.endswith(".") for n in checked.refused)
    assert "supported" in {n.state for n in checked.nodes}
    assert checked.listed() == list(checked.refused)
    assert not checked.exits
    assert f"{len(checked.refused)} of {len(checked.nodes)} nodes are not supported" in checked.lines()[0]


def test_a_module_with_several_inputs() -> None:
    checked = thumbnet.check(Two(), input_shape=(SHAPE, (6,)))
    assert isinstance(checked, Checked)
    assert checked.ok
    assert not any(checked.exits.values())


def test_what_is_behind_a_refused_recurrent_layer_is_checked() -> None:
    checked = check(Refused(), input_shape=SHAPE)
    assert str(checked).startswith("features.1 (gelu): Use ReLU")
    states = {(n.op, n.state) for n in checked.nodes}
    assert {("lstm", "refused"), ("select", "supported"), ("linear", "supported")} <= states


def test_a_node_without_an_integer_form() -> None:
    checked = check(NoIntegers(), input_shape=SHAPE)
    assert not checked.ok
    assert checked.agreement is not None, "the import was compared all the same"
    assert [(n.op, n.state) for n in checked.refused] == [("log_softmax", "refused")]
    assert "softmax" in checked.refused[0].reason
    assert checked.costs is None


def test_a_network_that_does_not_fit() -> None:
    checked = check(Large(), input_shape=(2000,))
    assert checked.ok
    assert "it does not fit as it is; 'thumbnet optimize' looks for a form that does" in "\n".join(checked.lines())


def test_quantized_files_may_be_compiled(tmp_path: Path) -> None:
    assert "'thumbnet compile' takes it as it is" in check(tflite(tmp_path)).lines()[-1]


def test_float_files_may_not(tmp_path: Path) -> None:
    assert "compile" not in "\n".join(check(onnx(tmp_path)).lines())


def test_a_quantized_file_that_only_the_compiler_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the float network behind the numbers is not what the file computes."""

    def differs(*_: object) -> None:
        raise ModelError("It differs.", "Compile it.")

    monkeypatch.setattr("thumbnet.importers.tflite_float.compare_layers", differs)
    checked = check(tflite(tmp_path))
    assert not checked.ok
    assert checked.error == "It differs. Compile it."
    assert set(checked.exits) == {"tflite", "onnx", "c"}
    assert checked.costs is not None
    assert checked.quantized


def test_a_graph_of_our_own() -> None:
    checked = check(load(Net(), SHAPE))
    assert checked.ok
    assert [n.op for n in checked.nodes] == ["conv2d", "batch_norm", "relu", "global_avg_pool", "dense"]


def test_a_target_that_does_not_exist() -> None:
    with pytest.raises(TargetError, match="nrf52840"):
        check(Net(), "nrf5284", input_shape=SHAPE)


def test_a_missing_shape_is_asked_for() -> None:
    with pytest.raises(ModelError, match="input_shape"):
        check(Net())


def test_weights_that_do_not_fit_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "networks_here.py").write_text("from torch.nn import ReLU")
    monkeypatch.chdir(tmp_path)
    torch.save({"other": torch.zeros(3)}, "w.pt")
    checked = check("networks_here:ReLU", input_shape=SHAPE, weights="w.pt")
    assert not checked.ok
    assert "w.pt" in checked.error
    assert checked.error in checked.lines()


@pytest.mark.parametrize(("package", "name", "extra"), [("onnx", "net.onnx", "onnx"), ("keras", "net.keras", "keras")])
def test_a_missing_package_is_named(
    package: str, name: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = {"onnx": onnx, "keras": keras}[package](tmp_path)
    assert path.name == name
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=rf"pip install 'thumbnet\[{extra}\]'"):
        check(path)


def test_a_saved_model_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"thumbnet\[tensorflow\]"):
        check(tmp_path)


# --- the command


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    error: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def run(*arguments: str | Path, width: int = 80) -> Said:
        monkeypatch.setattr(cli, "out", Console(highlight=False, markup=False, width=width))
        monkeypatch.setattr(sys, "argv", ["thumbnet", "check", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        text = capsys.readouterr()
        assert "Traceback" not in text.err
        assert isinstance(exit_.value.code, int)
        return Said(exit_.value.code, text.out, text.err)

    return run


def test_the_command_tells_a_supported_network(command: Callable[..., Said], tmp_path: Path) -> None:
    said = command(pt2(tmp_path), "--target", "stm32f411re", "--json", tmp_path / "c.json")
    assert said.code == 0
    assert said.out.startswith("All 5 nodes are supported.")
    told: dict[str, Any] = json.loads((tmp_path / "c.json").read_text())
    assert told["ok"]
    assert told["target"] == "stm32f411re"
    assert [n["op"] for n in told["nodes"]] == ["conv2d", "batch_norm", "relu", "mean", "linear"]
    assert told["agreement"]["difference"] <= told["agreement"]["tolerance"]
    assert told["flash_bytes"] > 0
    assert set(told["exits"]) == EXITS


@pytest.mark.parametrize("width", [80, 120])
def test_the_command_lists_what_is_refused_and_nothing_else(
    width: int, command: Callable[..., Said], tmp_path: Path
) -> None:
    path = pt2(tmp_path, Refused)
    said = command(path, width=width)
    assert said.code == ModelError.exit_code
    assert all(len(line) <= width for line in said.out.splitlines())
    for name in ("gelu", "group_norm", "erf", "lstm", "features.1", "Use BatchNorm2d instead"):
        assert name in said.out
    assert "linear" not in said.out
    assert "4 of 11 nodes are not supported." in said.out


def test_the_command_lists_everything_if_asked(command: Callable[..., Said], tmp_path: Path) -> None:
    said = command(onnx(tmp_path, "Gelu"), "--all", "--json", tmp_path / "c.json")
    assert "GlobalAveragePool" in said.out
    told = json.loads((tmp_path / "c.json").read_text())
    assert not told["ok"]
    assert [n["op"] for n in told["nodes"] if n["state"] == "refused"] == ["Gelu"]
    assert not told["exits"]


def test_the_command_takes_several_shapes(
    command: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "networks_of_check", sys.modules[__name__])
    assert command("networks_of_check:Two", "--input-shape", "3,16,16 and 6").code == 0
    for text, code in (("3,16,16", 3), ("3x16", 2), ("3,16,16 and", 2), ("0,1,1", 2), ("9999999,1,1", 2)):
        said = command("networks_of_check:Two", "--input-shape", text)
        assert said.code == code
        assert said.error.startswith("Error: ")


def test_the_command_on_what_does_not_exist(command: Callable[..., Said], tmp_path: Path) -> None:
    assert command("nothing.onnx").code == ModelError.exit_code
    assert command(pt2(tmp_path), "--target", "nrf5284").code == TargetError.exit_code


@pytest.mark.parametrize("suffix", ["pt2", "onnx", "keras", "h5", "tflite", "json", "pth", "xyz"])
def test_the_command_on_damaged_files(suffix: str, command: Callable[..., Said], tmp_path: Path) -> None:
    path = tmp_path / f"net.{suffix}"
    path.write_bytes(b"PK\x03\x04 not a model")
    said = command(path)
    assert said.code == ModelError.exit_code
    assert path.name in (said.error or said.out).replace("\n", "")


def test_names_in_files_cannot_reach_the_terminal(command: Callable[..., Said], tmp_path: Path) -> None:
    module = pytest.importorskip("onnx", reason="ONNX is optional")
    path = onnx(tmp_path, "Gelu")
    model = module.load(path)
    for node in model.graph.node:
        if node.op_type == "Gelu":
            node.name = "\x1b[31m[/red]" + "long " * 200
    module.save(model, path)
    said = command(path)
    assert said.code == ModelError.exit_code
    assert "\x1b" not in said.out
    assert "?[31m[/red]long" in said.out
    assert len(said.out) < 2000
