"""Whatever a user may call a model: what works, what is refused, and that nothing is ever run from a file."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.networks import SHAPE, network
from thumbnet.errors import ModelError, ThumbnetError
from thumbnet.graph.graph import Graph
from thumbnet.importers import load

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about its own pytrees
FACTORY = "tests.networks:Vgg"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return load(network("vgg"), SHAPE)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "vgg.pt2"
    program = torch.export.export(network("vgg"), (torch.zeros(1, *SHAPE),))
    torch.export.save(program, path)
    return path


def edited(archive: Path, edit: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with its records changed; names are below its top folder."""
    with zipfile.ZipFile(archive) as old:
        records = {i.filename.split("/", 1)[1]: old.read(i) for i in old.infolist()}
    edit(records)
    path = archive.with_name("edited.pt2")
    with zipfile.ZipFile(path, "w") as new:
        for name, data in records.items():
            new.writestr(f"archive/{name}", data)
    return path


def editing(record: str, change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    def edit(records: dict[str, bytes]) -> None:
        value = json.loads(records[record])
        change(value)
        records[record] = json.dumps(value).encode()

    return edit


class Trap:
    """Pickles to a call that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


class TestWhatWorks:
    def test_a_module(self, graph: Graph) -> None:
        assert graph.shapes[graph.outputs[0]] == (5,)

    def test_a_graph(self, graph: Graph) -> None:
        assert load(graph) is graph

    def test_an_exported_program(self, graph: Graph) -> None:
        program = torch.export.export(network("vgg"), (torch.zeros(1, *SHAPE),))
        assert weights_of(load(program)) == weights_of(graph)

    def test_its_file(self, graph: Graph, archive: Path) -> None:
        assert weights_of(load(archive)) == weights_of(graph)
        assert weights_of(load(str(archive), SHAPE)) == weights_of(graph)
        assert load(archive).name == "vgg"

    def test_its_file_with_any_batch(self, graph: Graph, tmp_path: Path) -> None:
        batch = torch.export.Dim("batch")
        program = torch.export.export(network("vgg"), (torch.zeros(2, *SHAPE),), dynamic_shapes=({0: batch},))
        torch.export.save(program, tmp_path / "any.pt2")
        assert weights_of(load(tmp_path / "any.pt2")) == weights_of(graph)

    def test_a_saved_graph(self, graph: Graph, tmp_path: Path) -> None:
        graph.save(tmp_path / "vgg.json")
        assert load(tmp_path / "vgg.json").digest == graph.digest

    @pytest.mark.parametrize("form", ["safetensors", "state dict", "checkpoint", "data parallel"])
    def test_a_factory_with_weights(self, graph: Graph, tmp_path: Path, form: str) -> None:
        state = network("vgg").state_dict()
        path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
        if form == "safetensors":
            save_file(state, path)
        elif form == "checkpoint":
            torch.save({"epoch": 3, "state_dict": state}, path)
        else:
            prefix = "module." if form == "data parallel" else ""
            torch.save({prefix + k: v for k, v in state.items()}, path)
        assert weights_of(load(FACTORY, SHAPE, path)) == weights_of(graph)

    def test_a_factory_in_the_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "my_tiny_net.py").write_text(
            "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())\n"
        )
        monkeypatch.chdir(tmp_path)
        assert load("my_tiny_net:make", SHAPE).shapes["1"] == (2, 14, 14)

    def test_a_factory_that_draws_its_weights_gives_the_same_ones_every_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "my_random_net.py").write_text("from torch import nn\ndef make():\n    return nn.Conv2d(3, 2, 3)\n")
        monkeypatch.chdir(tmp_path)
        state = torch.get_rng_state()
        first, second = (load("my_random_net:make", SHAPE) for _ in range(2))
        assert first.digest == second.digest
        assert torch.equal(torch.get_rng_state(), state)


def weights_of(graph: Graph) -> list[bytes]:
    return [w.tobytes() for n in graph.nodes for _, w in sorted(n.weights.items())]


class TestWhatIsRefused:
    @pytest.mark.parametrize("model", [42, None, ["a"], np.zeros(3)])
    def test_other_objects(self, model: Any) -> None:
        with pytest.raises(ModelError, match="not a model"):
            load(model, SHAPE)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("net.onnx", "no ONNX file"),
            ("net.h5", "HDF5|Keras"),
            ("net.tflite", "no TFLite file"),
            ("net.txt", "not a model"),
            ("net.pt2", "not an exported program"),
            ("net.pt", "never opened"),
            ("net.safetensors", "never opened"),
            ("net.json", "valid JSON"),
        ],
    )
    def test_files_of_other_kinds(self, tmp_path: Path, name: str, message: str) -> None:
        (tmp_path / name).write_bytes(b"nothing sensible")
        with pytest.raises(ModelError, match=message):
            load(tmp_path / name)

    def test_a_saved_model_folder(self, tmp_path: Path) -> None:
        (tmp_path / "saved_model.pb").touch()
        with pytest.raises(ModelError, match="SavedModel"):
            load(tmp_path)

    def test_a_missing_file(self) -> None:
        with pytest.raises(ModelError, match=r"no file nowhere\.pt2"):
            load("nowhere.pt2")

    def test_weights_without_a_network(self, tmp_path: Path) -> None:
        torch.save(network("vgg").state_dict(), tmp_path / "net.pt")
        with pytest.raises(ModelError, match=r"holds weights, but no network.*package\.module:factory"):
            load(tmp_path / "net.pt")

    def test_another_image_size_than_exported(self, archive: Path) -> None:
        with pytest.raises(ModelError, match=r"shape \(3, 16, 16\), not \(3, 32, 32\)"):
            load(archive, (3, 32, 32))

    def test_a_saved_graph_without_weights_or_sense(self, graph: Graph, tmp_path: Path) -> None:
        graph.save(tmp_path / "vgg.json")
        data = json.loads((tmp_path / "vgg.json").read_text())
        (tmp_path / "vgg.safetensors").unlink()
        with pytest.raises(ModelError, match="not a graph saved by Thumbnet"):
            load(tmp_path / "vgg.json")
        for broken in ({**data, "nodes": 3}, {**data, "inputs": [{}]}, {"format": 1}):
            (tmp_path / "vgg.json").write_text(json.dumps(broken))
            with pytest.raises(ModelError, match="not a graph"):
                load(tmp_path / "vgg.json")


class TestFactories:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("no_such_package:make", "no module 'no_such_package'"),
            ("tests.networks:Nothing", "no function or class 'Nothing'"),
            ("tests.networks:SHAPE", "no function or class 'SHAPE'"),
            ("builtins:dict", "makes a dict"),
        ],
    )
    def test_that_do_not_make_modules(self, name: str, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            load(name, SHAPE)

    def test_weights_of_another_network(self, tmp_path: Path) -> None:
        torch.save(network("unet").state_dict(), tmp_path / "unet.pt")
        with pytest.raises(ModelError, match=r"lack 'features.0.0.weight' \(\d+ names differ\)"):
            load(FACTORY, SHAPE, tmp_path / "unet.pt")

    def test_weights_of_another_shape(self, tmp_path: Path) -> None:
        state = network("vgg").state_dict()
        state["classifier.4.bias"] = torch.zeros(9)
        torch.save(state, tmp_path / "vgg.pt")
        with pytest.raises(ModelError, match=r"do not fit: size mismatch for classifier\.4\.bias"):
            load(FACTORY, SHAPE, tmp_path / "vgg.pt")

    def test_weights_that_are_missing_or_no_weights(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="no file"):
            load(FACTORY, SHAPE, tmp_path / "none.pt")
        torch.save([1, 2, 3], tmp_path / "list.pt")
        with pytest.raises(ModelError, match="something else than weights"):
            load(FACTORY, SHAPE, tmp_path / "list.pt")

    def test_weights_for_what_has_its_own(self, archive: Path) -> None:
        with pytest.raises(ModelError, match="Only a module takes weights"):
            load(archive, weights="weights.pt")


class TestNothingIsRun:
    def test_a_pickled_module(self, tmp_path: Path) -> None:
        torch.save(nn.Linear(2, 2), tmp_path / "net.pth")
        with pytest.raises(ModelError, match="a pickled module is never opened"):
            load(tmp_path / "net.pth")

    @pytest.mark.parametrize("form", ["torch", "pickle"])
    def test_a_trap_in_weights(self, tmp_path: Path, form: str) -> None:
        trace, path = tmp_path / "trace", tmp_path / "weights.pt"
        if form == "torch":
            torch.save({"weight": Trap(trace)}, path)
        else:
            path.write_bytes(pickle.dumps({"weight": Trap(trace)}))
        with pytest.raises(ModelError):
            load(FACTORY, SHAPE, path)
        with pytest.raises(ModelError):
            load(path)
        assert not trace.exists()

    def test_the_trap_would_have_worked(self, tmp_path: Path) -> None:
        pickle.loads(pickle.dumps(Trap(tmp_path / "trace")))
        assert (tmp_path / "trace").exists()

    def test_a_trap_in_sample_inputs_is_left_behind(self, archive: Path, tmp_path: Path, graph: Graph) -> None:
        trace = tmp_path / "trace"

        def edit(records: dict[str, bytes]) -> None:
            buffer = io.BytesIO()
            torch.save(Trap(trace), buffer)
            records["data/sample_inputs/model.pt"] = buffer.getvalue()

        assert weights_of(load(edited(archive, edit))) == weights_of(graph)
        assert not trace.exists()

    def test_a_trap_in_place_of_weights(self, archive: Path, tmp_path: Path) -> None:
        trace = tmp_path / "trace"

        def edit(records: dict[str, bytes]) -> None:
            buffer = io.BytesIO()
            torch.save(Trap(trace), buffer)
            records["data/weights/weight_0"] = buffer.getvalue()
            config = json.loads(records["data/weights/model_weights_config.json"])
            next(iter(config["config"].values()))["use_pickle"] = True
            records["data/weights/model_weights_config.json"] = json.dumps(config).encode()

        with pytest.raises(ModelError, match="pickled object"):
            load(edited(archive, edit))
        assert not trace.exists()

    @pytest.mark.parametrize("name", ["custom_obj_0", "opaque_obj_0"])
    def test_a_trap_among_constants(self, archive: Path, tmp_path: Path, name: str) -> None:
        trace = tmp_path / "trace"

        def edit(records: dict[str, bytes]) -> None:
            records[f"data/constants/{name}"] = pickle.dumps(Trap(trace))
            entry = {"path_name": name, "is_param": False, "use_pickle": False, "tensor_meta": None}
            records["data/constants/model_constants_config.json"] = json.dumps({"config": {"c": entry}}).encode()

        with pytest.raises(ModelError, match="pickled object"):
            load(edited(archive, edit))
        assert not trace.exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda p: node(p).update(target="torch.load"), "operation 'torch.load'"),
            (lambda p: node(p).update(target="torch.ops.load_library"), "operation"),
            (lambda p: node(p).update(target="torch.ops.aten.relu.default.__class__"), "operation"),
            (lambda p: node(p).update(target="#extension:x"), "operation"),
            (lambda p: node(p)["inputs"][0].update(arg={"as_custom_obj": {"name": "x"}}), "as_custom_obj"),
            (lambda p: node(p)["inputs"][0].update(arg={"as_graph": {}}), "as_graph"),
            (lambda p: tensor(p).update(sizes=[{"as_expr": {"expr_str": "__import__('os').getcwd()"}}]), "size"),
            (lambda p: tensor(p).update(sizes=[{"as_expr": {"expr_str": "Symbol('s0').subs(1, 2)"}}]), "size"),
            (lambda p: p["graph_module"].update(treespec_namedtuple_fields={"os": {}}), "Python objects"),
            (lambda p: p["graph_module"]["module_call_graph"][0].update(fqn='{"__enum__": true}'), "enumeration"),
        ],
    )
    def test_anything_but_aten_on_tensors_is_refused(
        self, archive: Path, change: Callable[[Any], None], message: str
    ) -> None:
        with pytest.raises(ModelError, match=f"holds .*{message}"):
            load(edited(archive, editing("models/model.json", change)))

    def test_guards_are_not_compiled(self, archive: Path, tmp_path: Path, graph: Graph) -> None:
        trace = tmp_path / "trace"
        code = [f"__import__('pathlib').Path({str(trace)!r}).touch() or True"]
        path = edited(archive, editing("models/model.json", lambda p: p.update(guards_code=code)))
        assert weights_of(load(path)) == weights_of(graph)
        assert not trace.exists()


def node(program: dict[str, Any]) -> dict[str, Any]:
    return program["graph_module"]["graph"]["nodes"][0]


def tensor(program: dict[str, Any]) -> dict[str, Any]:
    return next(iter(program["graph_module"]["graph"]["tensor_values"].values()))


class TestDamagedArchives:
    def test_cut_short(self, archive: Path) -> None:
        path = archive.with_name("short.pt2")
        path.write_bytes(archive.read_bytes()[:3000])
        with pytest.raises(ModelError, match="not an exported program"):
            load(path)

    @pytest.mark.parametrize("record", ["models/model.json", "data/weights/model_weights_config.json"])
    def test_without_a_description(self, archive: Path, record: str) -> None:
        with pytest.raises(ModelError, match="not an exported program"):
            load(edited(archive, lambda records: [records.pop(record)]))

    def test_without_a_weight(self, archive: Path) -> None:
        with pytest.raises(ThumbnetError):
            load(edited(archive, lambda records: [records.pop("data/weights/weight_0")]))

    @pytest.mark.parametrize("size", [1 << 40, -1, "many"])
    def test_with_a_size_that_cannot_be(self, archive: Path, size: Any) -> None:
        def change(config: Any) -> None:
            next(iter(config["config"].values()))["tensor_meta"]["sizes"] = [{"as_int": size}]

        with pytest.raises(ModelError, match=r"values, far too many|no number"):
            load(edited(archive, editing("data/weights/model_weights_config.json", change)))

    def test_with_a_description_of_nothing(self, archive: Path) -> None:
        with pytest.raises(ModelError):
            load(edited(archive, lambda records: records.update({"models/model.json": b"{}"})))


@pytest.mark.parametrize("seed", range(10))
def test_flipped_bytes_never_end_in_a_traceback(tmp_path: Path, archive: Path, seed: int) -> None:
    """Weights and descriptions with a few random bytes: read as they are, or refused with one of our errors."""
    rng = np.random.default_rng(seed)
    weights = tmp_path / "weights.pt"
    torch.save(network("vgg").state_dict(), weights)
    for path, read in ((weights, lambda: load(FACTORY, SHAPE, weights)), (archive, lambda: load(archive))):
        data = bytearray(path.read_bytes())
        for position in rng.integers(0, len(data), 3):
            data[position] = rng.integers(0, 256)
        path.write_bytes(data)
        with contextlib.suppress(ThumbnetError):  # anything else is a fault
            read()
