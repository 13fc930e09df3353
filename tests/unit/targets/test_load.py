from __future__ import annotations

from pathlib import Path

import pytest

from thumbnet.emulation.cycles import CLASSES
from thumbnet.errors import TargetError
from thumbnet.targets import available_targets, load_target

CORES = {"cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"}
BOARD = """
name = "mine"
title = "My board"
core = "cortex-m4"
flash = "512KB"
ram = "64KB"
clock_hz = 100_000_000
"""


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_six_cores_and_at_least_twelve_boards_ship() -> None:
    names = available_targets()
    assert set(names) >= CORES
    assert len(set(names) - CORES) >= 12
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", available_targets())
def test_every_shipped_target_is_complete(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.source
    assert target.title
    assert target.core.name in CORES
    assert set(target.core.cycles) <= set(CLASSES)
    assert target.core.isa in {
        "cortex-m0plus": ["generic"],
        "cortex-m3": ["v7m"],
        "cortex-m55": ["mve"],
    }.get(target.core.name, ["dsp"])


def test_the_board_of_the_demo() -> None:
    board = load_target("nrf52840")
    assert (board.flash_bytes, board.ram_bytes, board.clock_hz) == (1 << 20, 256 << 10, 64_000_000)
    assert (board.core.name, board.core.isa, board.core.float_abi) == ("cortex-m4", "dsp", "hard")


def test_names_are_matched_without_case_and_with_the_plus() -> None:
    assert load_target(" NRF52840 ").name == "nrf52840"
    assert load_target("Cortex-M0+").core.name == "cortex-m0plus"


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("nrf52480", "nrf52840"),
        ("stm32f746", "stm32f746ng"),
        ("bluepill", "stm32f103c8"),
        ("cortex-m5", "cortex-m55"),
    ],
)
def test_an_unknown_name_suggests_the_closest(name: str, closest: str) -> None:
    with pytest.raises(TargetError, match=closest):
        load_target(name)


def test_a_name_like_nothing_points_to_the_list() -> None:
    with pytest.raises(TargetError, match="thumbnet targets"):
        load_target("zzzzzzzzzz")


def test_own_board_by_path_by_name_and_from_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, work = tmp_path / "config", tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.chdir(work)
    by_path = load_target(write(tmp_path, BOARD))
    assert (by_path.flash_bytes, by_path.ram_bytes, by_path.wait_states) == (524288, 65536, None)
    assert "mine" not in available_targets()
    write(home / "thumbnet/targets", BOARD)
    assert load_target("mine") == by_path
    write(work / "targets", BOARD.replace("64KB", "32KB"))
    assert load_target("mine").ram_bytes == 32768  # the working folder's wins
    assert "mine" in available_targets()
    assert load_target("targets/mine.toml").ram_bytes == 32768


def test_a_part_without_the_extension_its_core_may_have(tmp_path: Path) -> None:
    text = BOARD.replace('"cortex-m4"', '"cortex-m33"') + 'isa = "generic"\n'
    core = load_target(write(tmp_path, text)).core
    assert (core.isa, core.zig_cpu) == ("generic", "cortex_m33")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"cortex-m4"', '"cortex-m0plus"\nisa = "dsp"', "no 'dsp' instructions"),
        ('"cortex-m4"', '"cortex-m3"\nisa = "dsp"', "no 'dsp' instructions"),
        ('"cortex-m4"', '"cortex-m4"\nisa = "mve"', "no 'mve' instructions"),
        ('"cortex-m4"', '"cortex-m4f"', "cortex-m4"),
        ('"512KB"', '"-1KB"', "flash"),
        ('"512KB"', "-4", "flash"),
        ('"64KB"', '"65MB"', "ram"),
        ('"64KB"', "true", "ram"),
        ("100_000_000", "0", "clock_hz"),
        ("100_000_000", '"fast"', "clock_hz"),
        ("clock_hz = 100_000_000", "", "clock_hz"),
        ('title = "My board"', 'title = "My board"\ncolour = "red"', "colour"),
        ('title = "My board"', 'title = "My board"\nwait_states = -1', "wait_states"),
        ('title = "My board"', 'title = "My board"\nflash_origin = 0x20000000', "overlap"),
        ('title = "My board"', 'title = "My board"\nram_origin = 0xDFFFFC00', "system region"),
        ('name = "mine"', 'name = "../../mine"', "name"),
        ('title = "My board"', "title = ", "not valid TOML"),
    ],
)
def test_impossible_boards_are_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in BOARD
    with pytest.raises(TargetError, match=says):
        load_target(write(tmp_path, BOARD.replace(old, new)))


def test_files_that_cannot_be_boards(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="does not exist"):
        load_target(tmp_path / "none.toml")
    with pytest.raises(TargetError, match="larger than"):
        load_target(write(tmp_path, "#" * (1 << 17)))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TargetError, match="not valid TOML"):
        load_target(tmp_path / "binary.toml")


def test_what_a_board_draws_needs_both_current_and_voltage(tmp_path: Path) -> None:
    board = load_target(write(tmp_path, BOARD + "active_ma = 10\nsupply_v = 3.3\n"))
    assert board.active_mw == pytest.approx(33)
    assert load_target(write(tmp_path, BOARD)).active_mw is None
    for line in ("active_ma = 10.0", "supply_v = 3.3"):
        with pytest.raises(TargetError, match="go together"):
            load_target(write(tmp_path, BOARD + line))
    with pytest.raises(TargetError, match="active_ma"):
        load_target(write(tmp_path, BOARD + "active_ma = 0\nsupply_v = 3.3\n"))


def test_shipped_currents_are_of_the_order_of_their_cores() -> None:
    """µA/MHz: a slip of a decimal point would show."""
    told = [b for b in map(load_target, available_targets()) if b.active_ma is not None]
    assert len(told) >= 5
    for board in told:
        assert 5 <= 1000 * (board.active_ma or 0) / (board.clock_hz / 1e6) <= 400
        assert 1.7 <= (board.supply_v or 0) <= 3.6


def test_bare_cores_do_not_tell_what_they_draw() -> None:
    assert all(load_target(core).active_mw is None for core in CORES)
