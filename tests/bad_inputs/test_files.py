"""Files of every format, damaged or false, at both doors: an error with a sentence each, soon, and in little memory.

What each format can hide on its own is in the tests of its importer; here all of them stand the same trials.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import resource
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from thumbnet.checker import check
from thumbnet.errors import ThumbnetError
from thumbnet.exporters.tflite import to_tflite
from thumbnet.graph.passes import clean
from thumbnet.importers.load import load, load_imported
from thumbnet.integer.lower import lower

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # Keras's
SECONDS, GROWTH_KB = 10, 256 << 10  # for each file; of resident memory at its highest, in this process
FORMATS = ("pt2", "onnx", "tflite", "keras", "h5", "json")
GIGABYTE = 1 << 30


class Bomb:
    """Unpickling this leaves a file."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("exploded", "w")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One small network in every format; those whose package is absent are left out."""
    folder = tmp_path_factory.mktemp("whole")
    graph = load(network(), (3, 8, 8))
    torch.export.save(torch.export.export(network().eval(), (torch.zeros(2, 3, 8, 8),)), folder / "net.pt2")
    (folder / "net.tflite").write_bytes(to_tflite(lower(clean(graph), None)))
    graph.save(folder / "net.json")
    try:
        from thumbnet.exporters.onnx_float import to_onnx

        (folder / "net.onnx").write_bytes(to_onnx(graph))
    except ThumbnetError:  # without ONNX
        pass
    try:
        from keras_networks import keras, saved

        x = keras.Input((8, 8, 3))
        y = keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(x)))
        for suffix in ("keras", "h5"):
            saved(keras.Model(x, y), folder / f"net.{suffix}")
    except pytest.skip.Exception:  # without Keras
        pass
    return {p.suffix[1:]: p.read_bytes() for p in folder.iterdir()}


def of(whole: dict[str, bytes], suffix: str) -> bytes:
    if suffix not in whole:
        pytest.skip(f"the package that writes .{suffix} is optional")
    return whole[suffix]


def peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    both_refuse(path)


def both_refuse(path: Path) -> None:
    """`load_imported` with a sentence; `check` likewise, or it tells so in its result."""
    start, before = time.monotonic(), peak_kb()
    with pytest.raises(ThumbnetError) as told:
        load_imported(path)
    said = str(told.value)
    assert said.rstrip().endswith((".", ")", "?")), said
    assert len(said) < 2000
    try:
        checked = check(path)
    except ThumbnetError:
        pass
    else:
        assert not checked.ok
        assert checked.error
    assert time.monotonic() - start < SECONDS
    assert peak_kb() - before < GROWTH_KB


def read_or_refused(path: Path, data: bytes) -> None:
    """Damage may hit what no reader looks at, or a weight; then there is nothing to refuse."""
    path.write_bytes(data)
    start, before = time.monotonic(), peak_kb()
    with contextlib.suppress(ThumbnetError):  # anything else is a fault
        check(path)
    assert time.monotonic() - start < SECONDS
    assert peak_kb() - before < GROWTH_KB


@pytest.mark.parametrize("suffix", FORMATS)
def test_cut_short(suffix: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    data = of(whole, suffix)
    for count in (0, 9, len(data) // 3, len(data) - 3):
        refused(tmp_path / f"net.{suffix}", data[:count])


@pytest.mark.parametrize("suffix", FORMATS)
def test_flipped_bits(suffix: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    data, rng = of(whole, suffix), np.random.default_rng(3)
    for _ in range(3):
        spoiled = bytearray(data)
        for place in rng.integers(0, len(data), 6):
            spoiled[place] ^= 1 << int(rng.integers(8))
        read_or_refused(tmp_path / f"net.{suffix}", bytes(spoiled))


@pytest.mark.parametrize("suffix", FORMATS)
def test_huge_numbers_where_sizes_are(suffix: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """The head and the tail of a file, where its sizes are, filled with the largest and the most negative numbers."""
    data = of(whole, suffix)
    for number, starts in ((b"\xff\xff\xff\x7f", (8, len(data) - 20)), (b"\xff\xff\xff\xff", (4, 24))):
        for start in starts:
            read_or_refused(tmp_path / f"net.{suffix}", data[:start] + number * 3 + data[start + 12 :])


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_name_of_another_format(suffix: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """Only Keras's two may stand for each other, as Keras itself writes what it is told by name."""
    for other, data in whole.items():
        if {other, suffix} == {"keras", "h5"}:
            read_or_refused(tmp_path / f"net.{suffix}", data)
        elif other != suffix:
            refused(tmp_path / f"net.{suffix}", data)


@pytest.mark.parametrize("suffix", [*FORMATS, "hdf5", "pth", "bin", "safetensors", "xyz"])
def test_a_pickle_is_never_opened(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(tmp_path / f"net.{suffix}", pickle.dumps(Bomb()))
    buffer = io.BytesIO()
    torch.save({"model": Bomb()}, buffer)
    refused(tmp_path / f"net.{suffix}", buffer.getvalue())
    assert not (tmp_path / "exploded").exists()


# --- archives


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return buffer.getvalue()


def _like(suffix: str, member: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A file whose description, in the place of its format, is `member`."""
    if suffix == "json":
        return member
    if suffix == "keras":
        return archive({"config.json": member, "metadata.json": b"{}", "model.weights.h5": b""}, compression)
    configs = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
    return archive({"net/models/model.json": member, **{f"net/{c}": b'{"config": {}}' for c in configs}}, compression)


@pytest.mark.parametrize("suffix", ["keras", "pt2", "json"])
@pytest.mark.parametrize(
    "member",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b"1" * 10_000,
        b'{"config": 3, "graph_module": []}',
        b'{"graph_module": {"graph": {"nodes": 3}}}',
        b"NaN",
    ],
    ids=lambda b: repr(b[:12]),
)
def test_descriptions_that_are_none(suffix: str, member: bytes, tmp_path: Path) -> None:
    refused(tmp_path / f"net.{suffix}", _like(suffix, member, zipfile.ZIP_STORED))


@pytest.mark.parametrize("suffix", ["keras", "pt2"])
def test_a_zip_bomb(suffix: str, tmp_path: Path) -> None:
    refused(tmp_path / f"net.{suffix}", _like(suffix, b" " * (96 << 20)))


@pytest.mark.parametrize("suffix", ["keras", "pt2"])
@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "..\\outside", "net/../../outside"])
def test_members_outside_of_the_archive(suffix: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    refused(folder / f"net.{suffix}", archive({name: b"x", "config.json": b"{}"}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inside"]
    assert [p.name for p in folder.iterdir()] == [f"net.{suffix}"]


@pytest.mark.parametrize("suffix", ["keras", "pt2"])
def test_an_encrypted_archive(suffix: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    data = bytearray(of(whole, suffix))
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = data.find(mark)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(mark, at + 4)
    refused(tmp_path / f"net.{suffix}", bytes(data))


@pytest.mark.parametrize("entry", [3, None, [], {}, {"path_name": "weight_0", "tensor_meta": 3}])
def test_weights_that_are_described_strangely(entry: object, whole: dict[str, bytes], tmp_path: Path) -> None:
    name = "data/weights/model_weights_config.json"
    with zipfile.ZipFile(io.BytesIO(of(whole, "pt2"))) as source:
        members = {i: source.read(i) for i in source.namelist()}
    key = next(k for k in members if k.endswith(name))
    members[key] = json.dumps({"config": {"0.weight": entry}}).encode()
    refused(tmp_path / "net.pt2", archive(members, zipfile.ZIP_STORED))


def test_torch_logs_no_traceback(
    whole: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """As it would before it raises an error about a weight that the archive lacks."""
    with zipfile.ZipFile(io.BytesIO(of(whole, "pt2"))) as source:
        members = {i: source.read(i) for i in source.namelist() if not i.endswith("weights/weight_1")}
    refused(tmp_path / "net.pt2", archive(members, zipfile.ZIP_STORED))
    text = capfd.readouterr()
    assert "Traceback" not in text.err + text.out + caplog.text


# --- sizes that are told, not there


@pytest.mark.parametrize("size", [GIGABYTE, 1 << 62])
def test_safetensors_with_a_huge_header(size: int, tmp_path: Path) -> None:
    refused(tmp_path / "net.safetensors", struct.pack("<Q", size) + b'{"a": 1}')


def test_a_sparse_file_of_gigabytes(tmp_path: Path) -> None:
    """Larger than any model: refused before it is read."""
    for suffix in FORMATS:
        path = tmp_path / f"net.{suffix}"
        with path.open("wb") as f:
            f.truncate(6 * GIGABYTE)
        both_refuse(path)
        path.unlink()


@pytest.mark.parametrize("suffix", FORMATS)
def test_folders_and_links(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.{suffix}"
    path.mkdir()
    with pytest.raises(ThumbnetError):
        check(path)
    path.rmdir()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ThumbnetError, match="There is no file"):
        check(path)
