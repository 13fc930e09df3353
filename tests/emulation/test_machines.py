"""The emulated boards: counts checked by hand and by single steps, and every way a firmware can misbehave."""

from __future__ import annotations

from pathlib import Path

import firmware_cases as cases
import pytest

from thumbnet.emulation import qemu
from thumbnet.emulation.board import Board
from thumbnet.emulation.cycles import CallCost, call_costs, function_costs
from thumbnet.emulation.machines import machine_for
from thumbnet.emulation.toolchain import Firmware, build
from thumbnet.emulation.unicorn import UnicornMachine
from thumbnet.errors import ToolchainError, VerificationError
from thumbnet.targets import load_target

pytest.importorskip("unicorn", reason="the emulator is optional")
pytestmark = pytest.mark.emulation

needs_qemu = pytest.mark.skipif(not qemu.available(), reason=f"{qemu.PROGRAM} is not installed")
DATA = bytes([5, 7]) + bytes(14)
UNICORN_CORES = ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33"]
QEMU_CORES = ["cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"]


def unicorn(folder: Path, name: str = "nrf52840") -> tuple[UnicornMachine, Firmware]:
    firmware = build(folder, load_target(name))
    return UnicornMachine(firmware, cases.INPUT_BYTES, cases.OUTPUT_BYTES), firmware


def in_qemu(folder: Path, name: str) -> tuple[Board, Firmware]:
    target = load_target(name)
    firmware = build(folder, target, memory=qemu.memory_for(target))
    return qemu.QemuMachine(firmware, cases.INPUT_BYTES, cases.OUTPUT_BYTES), firmware


@pytest.mark.parametrize("core", UNICORN_CORES)
def test_counts_equal_those_made_by_hand(tmp_path: Path, core: str) -> None:
    machine, firmware = unicorn(cases.counted(tmp_path), core)
    run = machine.run(DATA)
    assert run.output[0] == 5 + 3 * 7
    assert run.instructions == 4 + (2 + 30 + 3) + 3 + (2 + 9 + 3) + 1
    costs = call_costs(machine.counts(), firmware.image, firmware.target.core)
    assert [(c.function, c.instructions) for c in costs] == [("kernel", 39), ("kernel", 18)]
    scale = firmware.target.core.cycles["scale"]
    # push mov movs bl, then ldrb ldrb, the loop, movs strb bx; the second call ends with pop {r4, pc}.
    if core == "cortex-m0plus":  # loads and stores 2, taken branch 2, BL 3, BX 2, POP with PC 3 + N
        by_hand = [3 + 1 + 1 + 3 + (2 + 2) + (20 + 9 * 2 + 1) + (1 + 2 + 2), 1 + 1 + 3 + 4 + (6 + 2 * 2 + 1) + 5 + 5]
    else:  # the second load is pipelined; taken branch 3, BL 3, BX 3, POP with PC 1 + N + 2
        by_hand = [3 + 1 + 1 + 3 + (2 + 1) + (20 + 9 * 3 + 1) + (1 + 1 + 3), 1 + 1 + 3 + 3 + (6 + 2 * 3 + 1) + 5 + 5]
    assert [c.cycles for c in costs] == [round(c * scale) for c in by_hand]
    assert function_costs(machine.counts(), firmware.image, firmware.target.core)["kernel"].instructions == 49


@needs_qemu
@pytest.mark.parametrize("core", QEMU_CORES)
def test_qemu_counts_the_same(tmp_path: Path, core: str) -> None:
    machine, firmware = in_qemu(cases.counted(tmp_path), core)
    for _ in range(2):
        run = machine.run(DATA)
        assert (run.output[0], run.instructions) == (26, 57)
        costs = call_costs(machine.counts(), firmware.image, firmware.target.core)
        assert [(c.function, c.instructions) for c in costs] == [("kernel", 39), ("kernel", 18)]
    machine.check(DATA)


def test_single_steps_agree_with_block_counts(tmp_path: Path) -> None:
    body = "int s = 0; for (int i = 0; i < 16; i++) s += m[i] * (i + 1); memset(m + 32, s, 8);"
    firmware = build(cases.invoking(tmp_path, body), load_target("stm32h743zi"))
    counted = UnicornMachine(firmware, 16, 8).run(DATA)
    stepping = UnicornMachine(firmware, 16, 8)
    steps: list[int] = []
    uc = stepping._engine._uc  # type: ignore[attr-defined]
    import unicorn

    uc.hook_add(unicorn.UC_HOOK_CODE, lambda _uc, address, _size, _user: steps.append(address))
    uc.ctl_remove_cache(0x0800_0000, 0x0810_0000)
    assert stepping.run(DATA).output == counted.output == bytes([5 + 14]) * 8
    executed = stepping.counts()
    by_address = {a: steps.count(a) for a in set(steps)}
    for halfword in executed.starts().nonzero()[0]:
        address = executed.base + 2 * int(halfword)
        # An instruction whose IT condition fails takes its cycle, but is no step.
        assert executed.executed[:, halfword].sum() >= by_address.get(address, 0)
    assert counted.instructions >= len(steps) > 0


def test_stack_is_measured_from_the_top(tmp_path: Path) -> None:
    def body(n: int) -> str:
        return f"volatile int8_t deep[{n}]; for (int i = 0; i < {n}; i++) deep[i] = m[0]; m[32] = deep[1];"

    depths = []
    for size in (256, 1280):
        machine, _ = unicorn(cases.invoking(tmp_path / str(size), body(size)))
        run = machine.run(DATA)
        assert run.output[0] == 5
        depths.append(run.stack_bytes)
    assert depths[1] - depths[0] == 1024
    assert 256 < depths[0] < 256 + 128


STATIC = "static int8_t kept; static int values[3] = {1, 2, 3};"
BAD = {
    "writes a constant": (
        "*(volatile int8_t *)table = m[0];",
        "static const int8_t table[4] = {1};",
        "in model_invoke",
    ),
    "writes through null": ("*(volatile int *)0 = 1;", "", "in model_invoke"),
    "reads beyond RAM": ("m[32] = m[1 << 18];", "", "in model_invoke"),
    "writes static data": ("kept = m[0]; values[1]++; m[32] = kept;", STATIC, "static data"),
    "writes behind the arena": (
        "m[64] = 1; m[65] = 1; m[66] = 1;",
        "static int8_t behind[8]; int8_t *at = behind;",
        "static",
    ),
    "jumps to RAM": ("((void (*)(void))(uintptr_t)(m + 1))();", "", "faults"),
    "recurses": ("m[0]--; model_invoke(m); m[32] = m[0]; m[33]++;", "", "stack|faults"),
}


@pytest.mark.parametrize("what", BAD)
def test_misbehaviour_is_caught(tmp_path: Path, what: str) -> None:
    body, before, says = BAD[what]
    with pytest.raises(VerificationError, match=says):
        unicorn(cases.invoking(tmp_path, body, before=before))[0].run(bytes(range(16)))


def test_an_unaligned_access_faults_on_a_core_that_has_none(tmp_path: Path) -> None:
    folder = cases.invoking(tmp_path, 'int v; __asm__ volatile("ldr %0, [%1]" : "=l"(v) : "l"(m + 1)); m[32] = v;')
    machine, _ = unicorn(folder, "cortex-m4")
    machine.check(DATA)
    assert machine.run(DATA).output[0] == 7
    with pytest.raises(VerificationError, match=r"`ldr .*unaligned.*cortex-m0plus"):
        unicorn(folder, "cortex-m0plus")[0].check(DATA)


def test_an_unaligned_double_access_faults_on_every_core(tmp_path: Path) -> None:
    body = 'int v, w; __asm__ volatile("ldrd %0, %1, [%2]" : "=r"(v), "=r"(w) : "r"(m + 1)); m[32] = v + w;'
    with pytest.raises(VerificationError, match=r"`ldrd .*unaligned"):
        unicorn(cases.invoking(tmp_path, body), "cortex-m33")[0].check(DATA)


@pytest.mark.parametrize("core", UNICORN_CORES)
def test_looking_for_unaligned_accesses_changes_nothing(tmp_path: Path, core: str) -> None:
    body = "int s = 0; for (int i = 0; i < 16; i++) if (m[i] > 5) s += m[i]; memmove(m + 33, m, 7); m[32] = (int8_t)s;"
    machine, _ = unicorn(cases.invoking(tmp_path, body), core)
    before = machine.run(DATA)
    machine.check(DATA)
    assert machine.run(DATA) == before
    assert before.output == bytes([7, 5, 7, 0, 0, 0, 0, 0])


def test_arena_and_stack_hold_rubbish_before_each_run(tmp_path: Path) -> None:
    machine, _ = unicorn(cases.invoking(tmp_path, "m[32] = m[50]; m[33] = m[51]; m[34] = m[52]; m[35] = m[53];"))
    assert len({machine.run(DATA).output[:4] for _ in range(4)}) == 4


def test_a_main_that_never_invokes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thumbnet.emulation.board.BOOT_SECONDS", 0.2)
    main = '#include "model.h"\nint main(void) { return 0; }'
    with pytest.raises(VerificationError, match=r"no end after 0.2 seconds"):
        unicorn(cases.invoking(tmp_path, "m[32] = 0;", main_c=main))


def test_a_main_that_faults(tmp_path: Path) -> None:
    main = '#include "model.h"\nint main(void) { for (;;) { *(volatile int *)0xF0000000; } }'
    with pytest.raises(VerificationError, match="main"):
        unicorn(cases.invoking(tmp_path, "m[32] = 0;", main_c=main))


def test_accessors_that_leave_the_arena(tmp_path: Path) -> None:
    access = cases.ACCESS.replace("arena + 32", "arena + 60")
    with pytest.raises(VerificationError, match="model_output"):
        unicorn(cases.invoking(tmp_path, "m[32] = 0;", access_c=access))


@needs_qemu
def test_qemu_tells_where_a_fault_was(tmp_path: Path) -> None:
    machine, _ = in_qemu(cases.invoking(tmp_path, '__asm__ volatile("udf #1"); m[32] = 1;'), "cortex-m55")
    with pytest.raises(VerificationError, match="model_invoke"):
        machine.run(DATA)


@needs_qemu
def test_qemu_sees_afterwards_that_flash_was_written(tmp_path: Path) -> None:
    body = "*(volatile int8_t *)table = m[0]; m[32] = 1;"
    folder = cases.invoking(tmp_path, body, before="static const int8_t table[4] = {1};")
    machine, _ = in_qemu(folder, "cortex-m4")
    machine.run(DATA)
    with pytest.raises(VerificationError, match="flash"):
        machine.check(DATA)


def test_the_emulator_is_chosen_by_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cases.counted(tmp_path)
    firmware = build(folder, load_target("nrf52840"))
    machine, same = machine_for(folder, firmware, 16, 8)
    assert machine.name.startswith("unicorn 2")
    assert same is firmware
    monkeypatch.setattr(qemu, "available", lambda: False)
    with pytest.raises(ToolchainError, match="qemu-system-arm"):
        machine_for(folder, build(folder, load_target("ensemble-e7")), 16, 8)
    monkeypatch.setattr("thumbnet.emulation.unicorn.available", lambda: False)
    with pytest.raises(ToolchainError, match=r"pip install 'thumbnet\[emulator\]'"):
        machine_for(folder, firmware, 16, 8)
    with pytest.raises(ToolchainError, match="pip install"):
        UnicornMachine(firmware, 16, 8)


@needs_qemu
def test_without_unicorn_qemu_runs_the_same_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thumbnet.emulation.unicorn.available", lambda: False)
    folder = cases.counted(tmp_path)
    machine, relinked = machine_for(folder, build(folder, load_target("stm32f446re")), 16, 8)
    assert machine.name.startswith("qemu ")
    assert machine.run(DATA).instructions == 57
    costs = call_costs(machine.counts(), relinked.image, relinked.target.core)
    assert costs[0] == CallCost("kernel", 39, 64)
