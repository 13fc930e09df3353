"""Emitted networks on every core: byte for byte the integer simulator, which is TFLite Micro."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from integer_cases import Draw, graph_of

from thumbnet.cost.latency import WAIT_STATE_SHARE
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.emulation import qemu
from thumbnet.emulation.verify import Proof, extreme_vectors, verify_firmware
from thumbnet.errors import ThumbnetError, ToolchainError, VerificationError
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.integer import build
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.simulate import run
from thumbnet.targets import load_target

pytest.importorskip("unicorn", reason="the emulator is optional")
pytestmark = pytest.mark.emulation

needs_qemu = pytest.mark.skipif(not qemu.available(), reason=f"{qemu.PROGRAM} is not installed")
TARGETS = ["rp2040", "stm32f103c8", "nrf52840", "stm32h743zi", "stm32u575zi", "ensemble-e7"]


def network() -> IntegerGraph:
    """An inverted bottleneck with its residual, a stride of 2 with padding on one side, and a classifier."""
    d = Draw(3)
    x = d.tensor("x", (15, 13, 3), 0.05, 3)
    stem, wide = d.tensor("stem", (8, 7, 8), 0.2, -128), d.tensor("wide", (8, 7, 20), 6 / 255, -128)
    deep, narrow = d.tensor("deep", (8, 7, 20), 0.5, -7), d.tensor("narrow", (8, 7, 8), 2, 5)
    total, half = d.tensor("total", (8, 7, 8), 2, -20), d.tensor("half", (4, 4, 8), 5, 11)
    pooled, logits = d.tensor("pooled", (1, 1, 8), 1, 0), d.tensor("logits", (5,), 2, 1)
    flat = QTensor("flat", (8,), pooled.scale, pooled.zero_point)
    same = {"padding": (1, 1, 1, 1)}
    nodes = [
        build.conv2d("stem", x, stem, d.weight(8, 3, 3, 3), d.bias(8), stride=(2, 2), activation="relu", **same),
        build.conv2d("wide", stem, wide, d.weight(20, 1, 1, 8), d.bias(20), activation="relu6"),
        build.depthwise_conv2d("deep", wide, deep, d.weight(5, 5, 20), d.bias(20), padding=(2, 2, 2, 2)),
        build.conv2d("narrow", deep, narrow, d.weight(8, 1, 1, 20), None),
        build.add("total", stem, narrow, total),
        build.depthwise_conv2d("half", total, half, d.weight(3, 3, 8), d.bias(8), stride=(2, 2), padding=(0, 1, 1, 1)),
        build.global_avg_pool("pooled", half, pooled),
        IntegerNode("flat", "reshape", ("pooled",), {"shape": [8]}),
        build.dense("logits", flat, logits, d.weight(5, 8), d.bias(5)),
    ]
    return graph_of([x, stem, wide, deep, narrow, total, half, pooled, flat, logits], [x], nodes)


def images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(-128, 128, (count, 15, 13, 3)).astype(np.int8)


def firmware(folder: Path, name: str = "nrf52840") -> Path:
    write_firmware(folder, emit(network(), load_target(name)))
    return folder


@pytest.mark.parametrize("name", TARGETS)
def test_the_firmware_is_the_network(tmp_path: Path, name: str) -> None:
    target, calls = load_target(name), []
    if target.core.unicorn_model is None and not qemu.available():
        pytest.skip(f"{qemu.PROGRAM} is not installed")
    proof = verify_firmware(firmware(tmp_path, name), network(), target, images(), progress=lambda: calls.append(1))
    assert proof.bit_exact
    assert proof.mismatches == ()
    assert len(np.unique(run(network(), images())["logits"], axis=0)) == 3  # or equality would show little
    assert (proof.images, len(calls)) == (3, 3)
    if importlib.util.find_spec("tflite_micro"):
        assert proof.tflm_equal is True, proof.tflm_note
    assert proof.emulator.split()[0] == ("qemu" if target.core.unicorn_model is None else "unicorn")
    assert proof.compiler.startswith("zig ")
    assert proof.flash_bytes >= proof.code_bytes + proof.rodata_bytes + proof.data_bytes
    assert proof.ram_bytes == proof.arena_bytes + proof.static_bytes + proof.stack_bytes
    assert 0 < proof.stack_bytes < 4096
    assert [layer.name for layer in proof.layers] == [n.name for n in network().nodes]
    assert sum(layer.instructions for layer in proof.layers) == proof.instructions >= proof.instructions_min
    assert sum(layer.cycles for layer in proof.layers) == proof.cycles
    stalls = WAIT_STATE_SHARE * (target.wait_states or 0) * proof.instructions  # as the estimate has them
    assert proof.latency_ms == pytest.approx(1e3 * (proof.cycles + stalls) / target.clock_hz)
    assert Proof.from_json(json.loads(json.dumps(proof.json()))) == proof


def test_one_wrong_parameter_is_found(tmp_path: Path) -> None:
    folder = firmware(tmp_path)
    text = (folder / "model.c").read_text()
    *_, last = re.finditer(r"\.out_zero_point = (-?\d+)", text)
    (folder / "model.c").write_text(f"{text[: last.start(1)]}{int(last[1]) + 1}{text[last.end(1) :]}")
    proof = verify_firmware(folder, network(), load_target("nrf52840"), images())
    assert not proof.bit_exact
    first = proof.mismatches[0]
    assert first.got == first.expected + 1
    assert 1 <= len(proof.mismatches) <= 8
    assert Proof.from_json(json.loads(json.dumps(proof.json()))) == proof


def test_two_verifications_give_one_proof(tmp_path: Path) -> None:
    a = verify_firmware(firmware(tmp_path / "a"), network(), load_target("nrf52840"), images())
    b = verify_firmware(firmware(tmp_path / "b"), network(), load_target("nrf52840"), images())
    assert a == b


@needs_qemu
@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33"])
def test_both_emulators_give_one_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core: str) -> None:
    """The same instructions in every layer, the same stack, the same bytes."""
    a = verify_firmware(firmware(tmp_path / "a", core), network(), load_target(core), images())
    monkeypatch.setattr("thumbnet.emulation.unicorn.available", lambda: False)
    b = verify_firmware(firmware(tmp_path / "b", core), network(), load_target(core), images())
    assert (a.emulator.split()[0], b.emulator.split()[0]) == ("unicorn", "qemu")
    assert replace(b, emulator=a.emulator) == a


def test_a_network_too_large_for_the_board_is_refused(tmp_path: Path) -> None:
    b = ProbeBuilder(0)
    b.dense(b.input(300), 300)
    board = load_target("stm32f103c8")
    write_firmware(tmp_path, emit(b.graph(), board))
    with pytest.raises(ToolchainError, match="does not fit the memory"):
        verify_firmware(tmp_path, b.graph(), board, np.zeros((1, 300), np.int8))


def test_nothing_to_verify_with(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="no image"):
        verify_firmware(tmp_path, network(), load_target("nrf52840"), images(0))


def test_extreme_vectors_reach_both_ends() -> None:
    vectors = extreme_vectors((6, 5, 3))
    assert vectors.dtype == np.int8
    assert vectors.shape[1:] == (6, 5, 3)
    assert (vectors == -128).all(axis=(1, 2, 3)).any()
    assert (vectors == 127).all(axis=(1, 2, 3)).any()
    assert len(np.unique(vectors, axis=0)) == len(vectors)
    board = vectors[3, :, :, 0]
    assert set(board[0]) == {-128, 127}
    assert (board[0, :-1] != board[0, 1:]).all()
    assert (board[:-1, 0] != board[1:, 0]).all()


@pytest.mark.parametrize("data", [{}, {"layers": [], "mismatches": []}, {"layers": [{"name": 1}], "mismatches": []}])
def test_what_is_no_proof_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ThumbnetError, match="no proof"):
        Proof.from_json(data)
