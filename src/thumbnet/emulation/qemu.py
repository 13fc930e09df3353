"""Cortex-M cores emulated by QEMU, for those that Unicorn lacks: driven over its GDB port, counted by a plugin.

QEMU's boards are not ours: the firmware is linked again for the memory of the emulated one, flash there can be written
(the image is compared afterwards instead), and code takes the same bytes except for addresses in it.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
import weakref
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path

from thumbnet.emulation.board import Board, FaultError, Register
from thumbnet.emulation.counts import BlockCounter, Counts, native_library
from thumbnet.emulation.toolchain import Firmware, Memory
from thumbnet.errors import ToolchainError
from thumbnet.targets import Target

PROGRAM = "qemu-system-arm"
ANSWER_S = 60
START_S = 30
CHUNK_BYTES = 1024  # of memory in one packet; QEMU takes 4096 characters
_REGISTERS: dict[Register, int] = {"r0": 0, "sp": 13, "lr": 14, "pc": 15}
_MB = 1 << 20
_MEMORY = {  # QEMU documentation, "Arm MPS2 and MPS3 boards"; secure aliases where there are two
    "mps2-an385": Memory(0x0000_0000, 4 * _MB, 0x2000_0000, 4 * _MB),
    "mps2-an386": Memory(0x0000_0000, 4 * _MB, 0x2000_0000, 4 * _MB),
    "mps2-an500": Memory(0x0000_0000, 4 * _MB, 0x2000_0000, 4 * _MB),
    "mps2-an505": Memory(0x1000_0000, 4 * _MB, 0x3800_0000, 4 * _MB),
    "mps3-an547": Memory(0x1100_0000, 2 * _MB, 0x3100_0000, 4 * _MB, vectors_origin=0x1000_0000),
}


def memory_for(target: Target) -> Memory:
    """The emulated board's memory, no larger than the target's. Raises `ToolchainError` where there is no board."""
    machine = target.core.qemu_machine
    if machine is None:
        raise ToolchainError(f"QEMU has no board with a {target.core.name}.", "Install unicorn for this core.")
    m = _MEMORY[machine]
    return Memory(
        m.flash_origin,
        min(m.flash_bytes, target.flash_bytes),
        m.ram_origin,
        min(m.ram_bytes, target.ram_bytes),
        m.vectors_origin,
    )


class QemuMachine(Board):
    """A board in QEMU; `firmware` is built with `memory_for`. Raises `ToolchainError` without QEMU, and as `Board`."""

    def __init__(self, firmware: Firmware, input_bytes: int, output_bytes: int) -> None:
        super().__init__(QemuEngine(firmware), firmware, input_bytes, output_bytes)


class QemuEngine:
    """See `thumbnet.emulation.board.Engine`. The process ends with the object."""

    def __init__(self, firmware: Firmware) -> None:
        folder = Path(tempfile.mkdtemp(prefix="thumbnet-"))
        self._counter = BlockCounter(firmware.image, "model_invoke", folder / "counts")
        self._fault = firmware.image.symbol("Fault_Handler").address
        process = _start(firmware, folder)
        connection = socket.socket(socket.AF_UNIX)
        self._finalizer = weakref.finalize(self, _stop, process, connection, folder)
        _connect(connection, folder / "gdb", process)
        self._gdb = _Remote(connection)
        self._gdb.ask("qXfer:features:read:target.xml:0,1000")  # only then does QEMU take single registers

    @property
    def name(self) -> str:
        return name()

    def read(self, address: int, size: int) -> bytes:
        pieces = []
        for at in range(0, size, CHUNK_BYTES):
            reply = self._gdb.ask(f"m{address + at:x},{min(CHUNK_BYTES, size - at):x}")
            pieces.append(bytes.fromhex(reply))
        return b"".join(pieces)

    def write(self, address: int, data: bytes) -> None:
        for at in range(0, len(data), CHUNK_BYTES):
            piece = data[at : at + CHUNK_BYTES]
            self._gdb.expect_ok(f"M{address + at:x},{len(piece):x}:{piece.hex()}")

    def get(self, register: Register) -> int:
        return int.from_bytes(bytes.fromhex(self._gdb.ask(f"p{_REGISTERS[register]:x}")), "little")

    def set(self, register: Register, value: int) -> None:
        self._gdb.expect_ok(f"P{_REGISTERS[register]:x}={value.to_bytes(4, 'little').hex()}")

    def save(self) -> object:
        return self._gdb.ask("g")

    def restore(self, saved: object) -> None:
        self._gdb.expect_ok(f"G{saved}")

    def go(self, start: int, until: int, seconds: float) -> None:
        self.set("pc", start)
        self._counter.stop_at(until)
        stops = (until, self._fault)
        for stop in stops:
            self._gdb.expect_ok(f"Z0,{stop:x},2")
        try:
            self._gdb.ask("c", seconds)
        except TimeoutError as e:
            self._finalizer()
            raise FaultError(f"no end after {seconds} seconds") from e
        for stop in stops:
            self._gdb.expect_ok(f"z0,{stop:x},2")
        if self.get("pc") != until:
            stacked = self.read(self.get("sp"), 32)  # Armv7-M ARM B1.5.6: r0-r3, r12, lr, return address, xPSR
            self.set("pc", int.from_bytes(stacked[24:28], "little"))
            raise FaultError("an exception was taken")

    def strict(self, counts: Counts) -> AbstractContextManager[None]:
        return nullcontext()  # QEMU refuses by itself what the core would

    def reset_counts(self) -> None:
        self._counter.reset()

    def counts(self) -> Counts:
        return self._counter.counts()


class _Remote:
    """GDB's remote serial protocol, as far as needed: packets, acknowledged."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = bytearray()

    def ask(self, command: str, seconds: float = ANSWER_S) -> str:
        self._socket.settimeout(seconds)
        packet = command.encode()
        self._socket.sendall(b"$" + packet + b"#" + f"{sum(packet) & 0xFF:02x}".encode())
        self._until(b"$")
        text = self._until(b"#").decode("ascii")
        self._take(2)  # checksum: a local socket loses nothing
        self._socket.sendall(b"+")
        if re.fullmatch(r"E[0-9a-f]{2}", text):
            raise ToolchainError(f"QEMU refuses '{command[:40]}' with {text}.")
        return text

    def _until(self, mark: bytes) -> bytes:
        while (at := self._received.find(mark)) < 0:
            self._receive()
        return self._take(at + 1)[:-1]

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            self._receive()
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _receive(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ToolchainError("QEMU ended unexpectedly.")
        self._received += data

    def expect_ok(self, command: str) -> None:
        reply = self.ask(command)
        if reply != "OK":
            raise ToolchainError(f"QEMU answers '{reply[:40]}' to '{command[:40]}'.")


def available() -> bool:
    return shutil.which(PROGRAM) is not None


@lru_cache
def name() -> str:
    """Name and version. Raises `ToolchainError` where QEMU is not installed."""
    if not available():
        raise ToolchainError(f"{PROGRAM} is not installed.", "On Debian and Ubuntu: apt install qemu-system-arm.")
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, timeout=START_S, check=False)
    found = re.search(r"version (\d+\.\d+(?:\.\d+)?)", done.stdout)
    return f"qemu {found[1] if found else 'of unknown version'}"


def _start(firmware: Firmware, folder: Path) -> subprocess.Popen[bytes]:
    major = re.search(r"(\d+)\.", name())
    # QEMU 9 raised the interface to version 2 and accepts no older one; what we use did not change.
    interface = 1 if major is None or int(major[1]) < 9 else 2
    plugin = native_library("qemu_count_blocks.c", f"-DPLUGIN_VERSION={interface}", "-Wl,-undefined,dynamic_lookup")
    command = [PROGRAM, "-M", str(firmware.target.core.qemu_machine), "-S", "-nodefaults", "-display", "none"]
    command += ["-chardev", f"socket,path={folder / 'gdb'},server=on,wait=off,id=gdb", "-gdb", "chardev:gdb"]
    command += ["-plugin", f"{plugin},counts={folder / 'counts'}", "-kernel", str(firmware.elf)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _connect(connection: socket.socket, path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(START_S * 20):
        try:
            connection.connect(str(path))
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return
    words = process.stderr.read().decode(errors="replace") if process.poll() is not None and process.stderr else ""
    raise ToolchainError(f"QEMU does not start. {words[-500:]}".strip(), "Install qemu-system-arm 7.0 or newer.")


def _stop(process: subprocess.Popen[bytes], connection: socket.socket, folder: Path) -> None:
    connection.close()
    process.kill()
    process.wait()
    if process.stderr:
        process.stderr.close()
    shutil.rmtree(folder, ignore_errors=True)
