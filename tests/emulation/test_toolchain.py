from __future__ import annotations

import shutil
from pathlib import Path

import firmware_cases as cases
import pytest

from thumbnet.emulation.sizes import read_image, sizes
from thumbnet.emulation.toolchain import build
from thumbnet.errors import ToolchainError
from thumbnet.targets import load_target

pytestmark = pytest.mark.emulation

CONSTANTS = "static const int8_t table[300] = {1, 2, 3}; static int counter = 7; static int8_t zeroed[50];"
BODY = "counter++; zeroed[counter & 15] = 1; for (int i = 0; i < 8; i++) m[32 + i] = table[m[i] & 127] + zeroed[i];"


def test_sizes_are_those_of_the_sections(tmp_path: Path) -> None:
    firmware = build(cases.invoking(tmp_path, BODY, before=CONSTANTS), load_target("nrf52840"))
    s = firmware.image.sizes
    assert firmware.elf == tmp_path / "build" / "nrf52840.elf"
    assert 300 <= s.rodata < 320
    assert s.data == 4
    assert 64 + 50 <= s.bss <= 64 + 50 + 16
    assert s.flash_bytes - (s.code + s.rodata + s.data) in range(8)  # alignment
    assert sum(f.bytes for f in firmware.image.functions) + 64 <= s.code
    assert sizes(firmware.elf) == s
    table = firmware.image.symbol("table")
    assert (table.bytes, table.kind) == (300, "data")


def test_equal_sources_give_an_equal_image(tmp_path: Path) -> None:
    target = load_target("cortex-m0plus")
    images = [build(cases.counted(tmp_path / name), target).image.segments for name in ("one", "another")]
    assert images[0] == images[1]


@pytest.mark.parametrize("name", ["stm32f103c8", "rp2040", "stm32h743zi", "rp2350", "ensemble-e7"])
def test_memory_lies_where_the_board_has_it(tmp_path: Path, name: str) -> None:
    target = load_target(name)
    image = build(cases.counted(tmp_path), target).image
    arena = image.symbol("arena")
    assert target.ram_origin <= arena.address < target.ram_origin + target.ram_bytes
    assert image.symbol("__stack_top").address == target.ram_origin + target.ram_bytes
    assert min(s.load for s in image.segments) == target.flash_origin
    assert target.flash_origin <= image.entry < target.flash_origin + image.sizes.flash_bytes


def test_what_does_not_fit_is_said_so(tmp_path: Path) -> None:
    board = load_target("stm32f103c8")
    big = "static const int8_t big[70000] = {1}; "
    with pytest.raises(ToolchainError, match=r"does not fit the memory of ST STM32F103C8.*FLASH"):
        build(cases.invoking(tmp_path / "flash", "m[32] = big[m[0] * 500];", before=big), board)
    big = "static int8_t big[20000];"
    with pytest.raises(ToolchainError, match="no room for the stack"):
        build(cases.invoking(tmp_path / "ram", "big[m[0]]++; m[32] = big[m[1]];", before=big), board)


def test_errors_of_the_compiler_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="undeclared"):
        build(cases.invoking(tmp_path / "a", "nonsense;"), load_target("nrf52840"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ToolchainError, match="no C file"):
        build(tmp_path / "empty", load_target("nrf52840"))


def test_defines_reach_the_sources(tmp_path: Path) -> None:
    folder = cases.invoking(tmp_path, "\n#ifdef WITH_TABLE\n" + BODY + "\n#endif\n m[32] = 0;", before=CONSTANTS)
    with_table = build(folder, load_target("nrf52840"), tmp_path / "with.elf", defines=["WITH_TABLE"])
    assert with_table.image.sizes.rodata >= 300 > build(folder, load_target("nrf52840")).image.sizes.rodata


def test_files_that_are_no_firmware(tmp_path: Path) -> None:
    (tmp_path / "text.elf").write_text("no ELF")
    with pytest.raises(ToolchainError, match="no ELF file"):
        read_image(tmp_path / "text.elf")
    with pytest.raises(ToolchainError, match="does not exist"):
        read_image(tmp_path / "none.elf")


def test_an_absent_gcc_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolchainError, match="arm-none-eabi-gcc"):
        build(cases.counted(tmp_path), load_target("nrf52840"), compiler="gcc")


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed")
@pytest.mark.parametrize("name", ["rp2040", "stm32f103c8", "nrf52840", "stm32h743zi", "rp2350", "ensemble-e7"])
def test_gcc_is_a_second_compiler(tmp_path: Path, name: str) -> None:
    firmware = build(cases.invoking(tmp_path, BODY, before=CONSTANTS), load_target(name), compiler="gcc")
    assert firmware.compiler.startswith("arm-none-eabi-gcc ")
    assert firmware.image.sizes.data == 4
    assert firmware.image.symbol("table").bytes == 300


def test_small_code_keeps_its_symbols(tmp_path: Path) -> None:
    folder = cases.invoking(tmp_path, BODY, before=CONSTANTS)
    small = build(folder, load_target("rp2040"), tmp_path / "small.elf", optimize="size").image
    assert small.sizes.code < build(folder, load_target("rp2040")).image.sizes.code
    assert small.symbol("model_invoke").bytes > 0
