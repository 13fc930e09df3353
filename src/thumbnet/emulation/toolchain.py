"""Firmware folder to ELF file, with the compiler that comes as a Python package, or with GCC."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

from thumbnet.emulation import cmsis_nn
from thumbnet.emulation.sizes import Image, read_image
from thumbnet.errors import ToolchainError
from thumbnet.targets import Target

Compiler = Literal["zig", "gcc"]

STACK_BYTES = 1024  # the least that the linker must leave
VECTORS_BYTES = 64
KEPT = ("model_input", "model_output", "model_invoke")  # an application calls them all
TIMEOUT_S = 600
MAX_SOURCES = 1000
_WARNINGS = ("-Wall", "-Wextra", "-Werror=implicit-function-declaration")
# One command compiles and links, so some arguments go unused. Without debug lines zig drops the symbols under -Os.
_ZIG = ("-Wno-unused-command-line-argument", "-gline-tables-only")
_COMMON = (
    "-std=c99",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-fno-exceptions",
    "-fomit-frame-pointer",
)


@dataclass(frozen=True)
class Memory:
    """Where flash and RAM lie; emulated boards may keep the vectors apart."""

    flash_origin: int
    flash_bytes: int
    ram_origin: int
    ram_bytes: int
    vectors_origin: int | None = None  # None: at the start of flash

    @staticmethod
    def of(target: Target) -> Memory:
        return Memory(target.flash_origin, target.flash_bytes, target.ram_origin, target.ram_bytes)


@dataclass(frozen=True, eq=False)
class Firmware:
    """A linked firmware for a target."""

    elf: Path
    target: Target
    memory: Memory
    compiler: str  # "zig 0.17.1"
    library: Path | None = None  # CMSIS-NN, where the firmware calls it

    @cached_property
    def image(self) -> Image:
        return read_image(self.elf)


def build(
    firmware_dir: Path,
    target: Target,
    out: Path | None = None,
    *,
    defines: Sequence[str] = (),
    compiler: Compiler = "zig",
    optimize: Literal["speed", "size"] = "speed",
    memory: Memory | None = None,
    library: Path | None = None,
) -> Firmware:
    """Compiles all `*.c` and `*.S` under `firmware_dir` with our start-up code and links them for `target`.

    `library` is the folder of CMSIS-NN for firmware that calls it.
    `out` is the ELF file to write (default: `build/<target>.elf` in the folder). Equal inputs give an equal
    memory image. Raises `ToolchainError` with the compiler's own words where something does not build or the
    program does not fit the target's memory.
    """
    sources = _sources(firmware_dir)
    memory = memory or Memory.of(target)
    out = out or firmware_dir / "build" / f"{target.name}.elf"
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [*_compiler(compiler, target), *_COMMON, *_WARNINGS, "-O2" if optimize == "speed" else "-Os"]
    with (
        as_file(files("thumbnet.emulation").joinpath("firmware")) as runtime,
        tempfile.TemporaryDirectory(prefix="thumbnet-") as scratch,
    ):
        script = Path(scratch) / "link.ld"
        script.write_text(_linker_script((runtime / "link.ld").read_text(), memory))
        linked = Path(scratch) / "firmware.elf"
        own = [runtime / "startup.c", runtime / "memory.c"]
        headers = [f"-I{runtime / 'include'}", *([f"-I{library / 'Include'}"] if library else [])]
        archives = [str(_archive(library, target, compiler, [*command, *headers]))] if library else []
        _run(
            [
                *command,
                f"-I{firmware_dir.resolve()}",
                f"-I{firmware_dir.resolve() / 'kernels'}",
                *headers,
                *(f"-D{d}" for d in defines),
                "-nostartfiles",
                "-Wl,--gc-sections",
                "-Wl,-e,Reset_Handler",
                *(f"-Wl,-u,{name}" for name in KEPT),
                "-T",
                str(script),
                "-o",
                str(linked),
                *(str(s) for s in [*own, *sources]),
                *archives,
                *(("-nostdlib", "-lgcc") if compiler == "gcc" else ()),
            ],
            firmware_dir,
            target,
        )
        _move(linked, out)
    return Firmware(out, target, memory, version(compiler), library)


@lru_cache
def version(compiler: Compiler = "zig") -> str:
    """Name and version of the compiler. Raises `ToolchainError` where it is not installed."""
    command = [*zig(), "version"] if compiler == "zig" else [_gcc(), "-dumpfullversion"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False).stdout.strip()
    return f"{'zig' if compiler == 'zig' else 'arm-none-eabi-gcc'} {text}"


def zig() -> list[str]:
    """The command that starts zig. Raises `ToolchainError` where the package is missing."""
    try:
        import ziglang
    except ImportError as e:
        raise ToolchainError("The compiler 'ziglang' is not installed.", "Run `pip install ziglang`.") from e
    binary = Path(ziglang.__file__).with_name("zig.exe" if sys.platform == "win32" else "zig")
    if not binary.exists():
        raise ToolchainError(f"{binary} does not exist.", "Run `pip install --force-reinstall ziglang`.")
    return [str(binary)]


def environment() -> dict[str, str]:
    """The process environment with zig's caches in the user's cache folder; zig locks them itself."""
    cache = cache_dir() / "zig"
    return {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}


def cache_dir() -> Path:
    """$THUMBNET_CACHE, or thumbnet in $XDG_CACHE_HOME (~/.cache)."""
    own = os.environ.get("THUMBNET_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thumbnet"


def compile_for_host(source: Path, out: Path, flags: Sequence[str] = ()) -> None:
    """A shared library for this machine from one C file. Raises `ToolchainError` where that fails."""
    with tempfile.TemporaryDirectory(prefix="thumbnet-") as scratch:
        library = Path(scratch) / "library.so"
        command = [*zig(), "cc", "-O2", "-g0", "-shared", "-fPIC", *flags, "-o", str(library), str(source)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), timeout=TIMEOUT_S, check=False
        )
        if done.returncode:
            raise ToolchainError(f"{source.name} does not compile for {platform.machine()}: {done.stderr[-2000:]}")
        out.parent.mkdir(parents=True, exist_ok=True)
        _move(library, out)


def _archive(library: Path, target: Target, compiler: Compiler, command: list[str]) -> Path:
    """CMSIS-NN as an archive, compiled once for each core, compiler, flags and content of its files."""
    sources = cmsis_nn.sources(library)
    h = hashlib.sha256("\n".join((version(compiler), *command[:-2])).encode())
    for file in (*sorted((library / "Include").rglob("*.h")), *sources):
        h.update(file.relative_to(library).as_posix().encode() + file.read_bytes())
    archive = cache_dir() / "cmsis_nn" / f"{target.core.name}-{h.hexdigest()[:24]}.a"
    if archive.is_file():
        return archive
    tool = [*zig(), "ar"] if compiler == "zig" else [_gcc().removesuffix("gcc") + "ar"]
    with tempfile.TemporaryDirectory(prefix="thumbnet-") as scratch:
        _run([*command, "-c", *map(str, sources)], Path(scratch), target)
        objects = sorted(p.name for p in Path(scratch).glob("*.o"))
        _run([*tool, "rcs", "library.a", *objects], Path(scratch), target)
        archive.parent.mkdir(parents=True, exist_ok=True)
        _move(Path(scratch) / "library.a", archive)
    return archive


def _sources(firmware_dir: Path) -> list[Path]:
    skipped = firmware_dir / "build"
    found = (p for pattern in ("*.c", "*.S") for p in firmware_dir.rglob(pattern) if skipped not in p.parents)
    sources = sorted(p.relative_to(firmware_dir) for p in found)
    if not sources:
        raise ToolchainError(f"There is no C file in {firmware_dir}.", "Export the firmware first.")
    if len(sources) > MAX_SOURCES:
        raise ToolchainError(f"{firmware_dir} holds {len(sources)} C files, more than any firmware of ours.")
    return sources


def _compiler(compiler: Compiler, target: Target) -> list[str]:
    core = target.core
    if compiler == "zig":
        abi = "eabihf" if core.float_abi == "hard" else "eabi"
        return [*zig(), "cc", *_ZIG, "-target", f"thumb-freestanding-{abi}", f"-mcpu={core.zig_cpu}"]
    cpu = core.name + ("+nodsp" if core.isa == "generic" and core.architecture == "armv8-m.main" else "")
    return [_gcc(), f"-mcpu={cpu}", "-mthumb", f"-mfloat-abi={core.float_abi}", "-mfpu=auto", "-g1"]


def _gcc() -> str:
    found = shutil.which("arm-none-eabi-gcc")
    if found is None:
        raise ToolchainError(
            "arm-none-eabi-gcc is not on the path.", "Install it, or use the default compiler, which needs no install."
        )
    return found


def _linker_script(template: str, memory: Memory) -> str:
    apart = memory.vectors_origin is not None
    values = {
        "VECTORS_ORIGIN": memory.vectors_origin if apart else memory.flash_origin,
        "VECTORS_BYTES": VECTORS_BYTES,
        "FLASH_ORIGIN": memory.flash_origin if apart else memory.flash_origin + VECTORS_BYTES,
        "FLASH_BYTES": memory.flash_bytes - VECTORS_BYTES,
        "RAM_ORIGIN": memory.ram_origin,
        "RAM_BYTES": memory.ram_bytes,
        "STACK_BYTES": STACK_BYTES,
    }
    for key, value in values.items():
        template = template.replace(f"@{key}@", f"{value:#x}")
    return template


def _run(command: list[str], cwd: Path, target: Target) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, env=environment(), timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as e:
        raise ToolchainError(f"Compiling {cwd} took more than {TIMEOUT_S} seconds.") from e
    if done.returncode == 0:
        return
    words = done.stderr.strip()
    if "will not fit in region" in words or "no room for the stack" in words or "overflowed by" in words:
        raise ToolchainError(
            f"The firmware in {cwd} does not fit the memory of {target.title}: {_first_error(words)}.",
            "Ask for a smaller network or choose a larger target.",
        )
    raise ToolchainError(f"The firmware in {cwd} does not build for {target.title}.\n{words[-4000:]}")


def _first_error(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if "error" in line.lower()]
    return (lines or words.splitlines())[0]


def _move(source: Path, out: Path) -> None:
    """Atomic on one file system: copied next to `out` first."""
    fd, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    os.close(fd)
    shutil.copyfile(source, temporary)
    os.chmod(temporary, 0o755)
    os.replace(temporary, out)
