"""Keras files from strangers: none runs code, follows a link, takes much memory or leaves a traceback."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras_networks import keras

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.importers.keras import check_keras, import_keras

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # Keras's


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small network in both formats."""
    folder = tmp_path_factory.mktemp("keras")
    x = keras.Input((8, 8, 1), name="x")
    y = keras.layers.Conv2D(4, 3, name="conv")(x)
    model = keras.Model(x, keras.layers.Dense(2, name="dense")(keras.layers.Flatten(name="flat")(y)))
    found = {}
    for suffix in ("keras", "h5"):
        model.save(folder / f"net.{suffix}")
        found[suffix] = (folder / f"net.{suffix}").read_bytes()
    return found


def edited(files: dict[str, bytes], edit: Callable[[dict[str, Any]], Any], path: Path) -> Path:
    """The .keras file with another configuration."""
    with zipfile.ZipFile(io.BytesIO(files["keras"])) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "config.json":
                config = json.loads(data)
                edit(config)
                data = json.dumps(config).encode()
            target.writestr(name, data)
    return path


def layer(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(found for found in config["config"]["layers"] if found["name"] == name)


def refused(path: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as told:
        import_keras(path)
    assert told.value.hint


CODE = {"value": "4wEAAAA="}


def as_class(kind: str, module: str | None, config: dict[str, Any], **more: Any) -> Callable[[dict[str, Any]], None]:
    def edit(whole: dict[str, Any]) -> None:
        layer(whole, "flat").update(class_name=kind, module=module, config={"name": "flat", **config}, **more)

    return edit


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (
            as_class("Lambda", "keras.layers", {"function": {"class_name": "__lambda__", "config": {"value": "x"}}}),
            "code",
        ),
        (as_class("Mine", "my.package", {}, registered_name="my>Mine"), "my>Mine"),
        (as_class("Flatten", "keras.layers", {}, registered_name="my>Flatten"), "my>Flatten"),
        (as_class("run", "subprocess", {"args": ["touch", "exploded"]}), "run"),
        (as_class("TFSMLayer", "keras.layers", {"filepath": "/tmp", "call_endpoint": "x"}), "SavedModel"),
        (as_class("get_file", "keras.utils", {"origin": "http://example.invalid"}), "get_file"),
        (as_class("GetFile", "keras.ops", {}), "GetFile"),
        (as_class("Dense", "keras.layers", {"units": 1 << 40}), "weights"),
        (as_class("UpSampling2D", "keras.layers", {"size": [1 << 20, 1 << 20]}), "numbers"),
        (as_class("Flatten", "keras.layers", {"unknown": 1}), "flat"),
        (as_class("Activation", "keras.layers", {"activation": "os>system"}), "activation"),
        (
            as_class("Activation", "keras.layers", {"activation": {"class_name": "function", "config": "my_function"}}),
            "my_function",
        ),
    ],
)
def test_classes_and_functions_come_from_tables_only(
    files: dict[str, bytes], edit: Any, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = edited(files, edit, tmp_path / "net.keras")
    refused(path, match)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.keras"]


def test_check_lists_every_layer_even_beside_unknown_ones(files: dict[str, bytes], tmp_path: Path) -> None:
    path = edited(files, as_class("Mine", "my.package", {}, registered_name="my>Mine"), tmp_path / "net.keras")
    states = {r.name: r.state for r in check_keras(path)}
    assert states == {"conv": "unchecked", "flat": "refused", "dense": "unchecked"}


@pytest.mark.parametrize("key", ["layers", "input_layers", "output_layers"])
@pytest.mark.parametrize("value", [None, [], "x", 3, {"a": 1}, [["nothing", 0, 0]], [["conv", 7, 0]], [["conv", 0, 9]]])
def test_configurations_that_make_no_sense(files: dict[str, bytes], key: str, value: Any, tmp_path: Path) -> None:
    path = edited(files, lambda c: c["config"].update({key: value}), tmp_path / "net.keras")
    with pytest.raises(ModelError):
        import_keras(path)


@pytest.mark.parametrize(
    "nodes",
    [
        [[["dense", 0, 0, {}]]],
        [[["x", 0, 0, {}], ["x", 0, 0, {}]]],
        [{"args": [{"class_name": "__lambda__", "config": {"value": "x"}}], "kwargs": {}}],
        [{"args": [], "kwargs": {}}],
        [[[["x"], 0, 0]]],
        "x",
        [3],
    ],
)
def test_calls_that_make_no_sense(files: dict[str, bytes], nodes: Any, tmp_path: Path) -> None:
    path = edited(files, lambda c: layer(c, "conv").update(inbound_nodes=nodes), tmp_path / "net.keras")
    with pytest.raises(ModelError):
        import_keras(path)


def test_settings_of_the_wrong_kind(files: dict[str, bytes], tmp_path: Path) -> None:
    for key, value in (("filters", "many"), ("kernel_size", [0, 0]), ("strides", -1), ("padding", {}), ("groups", 3)):
        path = edited(files, lambda c: layer(c, "conv")["config"].update({key: value}), tmp_path / "net.keras")  # noqa: B023
        with pytest.raises(ModelError):
            import_keras(path)


def test_weights_of_other_shapes(files: dict[str, bytes], tmp_path: Path) -> None:
    refused(edited(files, lambda c: layer(c, "conv")["config"].update(filters=2), tmp_path / "net.keras"), "do not fit")


def test_deep_json(files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[" * 200_000)
        archive.writestr("model.weights.h5", b"")
    refused(path, "configuration")


# --- the archive


def test_zip_bombs_and_strange_members(files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (64 << 20))
        archive.writestr("model.weights.h5", b"")
    refused(path, "unpacks to")
    for name in ("../evil", "/evil", "assets/vocabulary.txt", "model.weights.npz"):
        path.write_bytes(files["keras"])
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"x")
        refused(path, "does not need")


def test_archives_cut_short(files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    for count in (2, 100, len(files["keras"]) // 2, len(files["keras"]) - 10):
        path.write_bytes(files["keras"][:count])
        refused(path, "damaged")
    path.write_bytes(b"")
    refused(path, "cannot be read")


# --- HDF5


def test_hdf5_cut_short_or_damaged(files: dict[str, bytes], tmp_path: Path) -> None:
    path, rng = tmp_path / "net.h5", np.random.default_rng(0)
    for count in (8, 100, len(files["h5"]) // 2, len(files["h5"]) - 1):
        path.write_bytes(files["h5"][:count])
        refused(path, r"damaged|cannot be read")
    for _ in range(8):
        data = bytearray(files["h5"])
        for k in rng.integers(0, 4096, 8):
            data[k] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(ModelError):
            import_keras(path)


def _links_out(file: Any) -> None:
    file["model_weights/conv/more"] = h5py.ExternalLink("other.h5", "/x")


def _links_softly(file: Any) -> None:
    file["model_weights/conv/more"] = h5py.SoftLink("/model_weights")


def _loops(file: Any) -> None:
    file["model_weights/conv/more"] = file["model_weights"]


def _stores_outside(file: Any) -> None:
    file.create_dataset("model_weights/more", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def _stores_virtually(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("model_weights/more", layout)


def _holds_texts(file: Any) -> None:
    file.create_dataset("model_weights/more", data=np.array([b"x"], h5py.string_dtype()))


def _is_huge(file: Any) -> None:
    file.create_dataset("model_weights/more", (1 << 40,), "f4", chunks=(1 << 16,), compression="gzip")


def _has_no_network(file: Any) -> None:
    del file.attrs["model_config"]


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (_links_out, "points elsewhere"),
        (_links_softly, "points elsewhere"),
        (_loops, "linked to twice"),
        (_stores_outside, "another file"),
        (_stores_virtually, "another file"),
        (_holds_texts, "not numbers"),
        (_is_huge, "MB of weights"),
        (_has_no_network, "no network"),
    ],
)
def test_hdf5_that_leads_elsewhere(files: dict[str, bytes], edit: Any, match: str, tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    path.write_bytes(files["h5"])
    with h5py.File(path, "a") as file:
        edit(file)
    refused(path, match)


def test_files_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing"):
        import_keras(tmp_path / "nothing.keras")


def test_lambda_layers_of_keras_2_are_refused_by_name(files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    path.write_bytes(files["h5"])
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        layer(config, "flat").update(class_name="Lambda", config={"name": "flat", "function": ["4wEAAAA=", None, None]})
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(UnsupportedOpError, match="Lambda"):
        import_keras(path)
