"""What a firmware engineer's tools say about the emitted C: compilers, cppcheck, the object file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from firmware_networks import CORES, FAMILIES, NETWORKS, firmware, network, sources_in

import thumbnet.emulation
from thumbnet.cost.memory import plan_arena
from thumbnet.cost.schedule import schedule
from thumbnet.exporters.c.calls import SPELLERS
from thumbnet.exporters.c.emit import kernel_folder
from thumbnet.targets import load_target

WARNINGS = [
    *("-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wstrict-prototypes", "-Wundef"),
    *("-Wdouble-promotion", "-pedantic"),
    *("-Wvla", "-Walloca"),  # the size of every frame is fixed
    "-Werror",  # zig shows no warnings of what it has compiled before, but errors are never kept
]
RUNTIME = Path(thumbnet.emulation.__path__[0]) / "firmware/include"  # a string.h for compilers without a C library
FUNCTION = re.compile(r"^[\w *]+?(\w+)\([^;{}]*\)\n\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
ZIG = [sys.executable, "-m", "ziglang", "cc", "-Wno-unused-command-line-argument"]


@dataclass(frozen=True)
class CompilerCase:
    """`command(family)` is empty where the compiler is missing or cannot compile that family."""

    name: str

    def command(self, family: str) -> list[str]:
        core = load_target(CORES[family]).core
        if self.name == "zig for Arm":
            abi = "eabihf" if core.float_abi == "hard" else "eabi"
            return [*ZIG, "-target", f"thumb-freestanding-{abi}", f"-mcpu={core.zig_cpu}", f"-I{RUNTIME}"]
        if self.name == "arm-none-eabi-gcc":
            flags = ["-mthumb", f"-mcpu={core.name}", f"-mfloat-abi={core.float_abi}", "-mfpu=auto", f"-I{RUNTIME}"]
            return [self.name, *flags, "-nostdlib"] if shutil.which(self.name) else []
        if family != "generic":
            return []
        if self.name == "zig":
            return ZIG
        return [self.name, "-nostdlib"] if shutil.which(self.name) else []


COMPILERS = [CompilerCase(n) for n in ("zig", "zig for Arm", "clang", "gcc", "arm-none-eabi-gcc")]


def objects(compiler: Sequence[str], sources: Sequence[Path], folder: Path, *flags: str) -> Path:
    """All sources in one relocatable object, warnings being errors."""
    out = folder / "all.o"
    command = [*compiler, "-std=c99", "-O2", *WARNINGS, *flags, "-r", "-o", str(out), *map(str, sources)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def test_the_networks_use_every_operation_and_every_kernel() -> None:
    graphs = [network(name) for name in NETWORKS]
    assert {node.op for ig in graphs for node in ig.nodes} >= set(SPELLERS)
    units = [unit for ig in graphs for unit in schedule(ig, "generic")]
    kernels = {f"generic/{f.name}" for f in (kernel_folder() / "generic").iterdir() if f.name.endswith(".c")}
    assert {source for unit in units for source in unit.sources if source.endswith(".c")} == kernels


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("compiler", COMPILERS, ids=lambda c: c.name)
def test_kernels_compile_without_warnings(compiler: CompilerCase, family: str, tmp_path: Path) -> None:
    command = compiler.command(family)
    if not command:
        pytest.skip(f"{compiler.name} is not installed, or not for {family} kernels")
    kernels = Path(str(kernel_folder()))
    objects(command, sources_in(kernels / family), tmp_path, f"-I{kernels / 'generic'}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("compiler", COMPILERS, ids=lambda c: c.name)
def test_models_compile_without_warnings(compiler: CompilerCase, family: str, tmp_path: Path) -> None:
    command = compiler.command(family)
    if not command:
        pytest.skip(f"{compiler.name} is not installed, or not for {family} kernels")
    for name in NETWORKS:
        folder = firmware(network(name), family, tmp_path / name)
        objects(command, [folder / "model.c", folder / "main.c"], folder, "-DMODEL_SELF_TEST")


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_allocated_shared_or_unbounded(family: str, tmp_path: Path) -> None:
    """Of a firmware with its application: no initialized variable, zeroed ones of the arena's size alone, no function
    from elsewhere but copies, fills and arithmetic. No function can come to call itself: the stack has a bound."""
    for name in NETWORKS:
        folder = firmware(network(name), family, tmp_path / name)
        flags = ["-fno-unwind-tables", "-fno-exceptions", "-ffunction-sections", "-fdata-sections"]
        compiler = [*CompilerCase("zig for Arm").command(family), *flags]
        with objects(compiler, sources_in(folder), folder).open("rb") as f:
            elf = ELFFile(f)
            writable = [s for s in elf.iter_sections() if s["sh_flags"] & SH_FLAGS.SHF_WRITE and s["sh_size"]]
            symbols = list(elf.get_section_by_name(".symtab").iter_symbols())
            calls = references(elf)
        arena_bytes = plan_arena(network(name), load_target(CORES[family]).core.isa).arena_bytes
        assert [(s["sh_type"], s["sh_size"]) for s in writable] == [("SHT_NOBITS", arena_bytes)]
        assert not [s.name for s in symbols if s["st_shndx"] == "SHN_COMMON"]
        foreign = {s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s.name}
        copies = {f"__aeabi_mem{f}{n}" for f in ("cpy", "move", "set", "clr") for n in ("", 4, 8)}
        arithmetic = {"__aeabi_lmul", "__aeabi_idiv", "__aeabi_uidiv", "__aeabi_idivmod", "__aeabi_uidivmod"}
        assert foreign <= {"memcpy", "memmove", "memset", *copies, *arithmetic}
        assert {f".text.{f}" for f in ("model_invoke", "model_input", "model_output")} <= calls[".text.main"]
        TopologicalSorter(calls).prepare()  # raises CycleError
        for source in sources_in(folder):  # calls of a static function by itself need no relocation
            for function, body in FUNCTION.findall(source.read_text()):
                assert not re.search(rf"\b{function}\(", body)


def references(elf: ELFFile) -> dict[str, set[str]]:
    """Which section refers to which others. Each function is a section; each address that it takes counts as a call."""
    found: dict[str, set[str]] = {}
    names = [s.name for s in elf.iter_sections()]
    symbols = elf.get_section_by_name(".symtab")
    for section in elf.iter_sections():
        home = names[section["sh_info"]] if isinstance(section, RelocationSection) else ""
        if home.startswith((".text", ".rodata")):
            targets = {symbols.get_symbol(r["r_info_sym"])["st_shndx"] for r in section.iter_relocations()}
            found.setdefault(home, set()).update({names[t] for t in targets - {"SHN_UNDEF"}} - {home})
    return found


def _is_internal(header: Path) -> bool:
    """Whether only kernels include it: those for Helium need a compiler that has it."""
    return header.parent.name == "kernels" and not header.name.startswith("tn_kernels")


def test_cxx_includes_every_header(tmp_path: Path) -> None:
    compiler = [shutil.which("c++")] if shutil.which("c++") else [sys.executable, "-m", "ziglang", "c++"]
    flags = [w for w in WARNINGS if w != "-Wstrict-prototypes"]
    for family in FAMILIES:
        folder = firmware(network("mobile"), family, tmp_path / family)
        headers = sorted(p.relative_to(folder) for p in folder.rglob("*.h") if not _is_internal(p))
        text = "".join(f'#include "{h}"\n' for h in headers)
        (folder / "use.cpp").write_text(f"{text}int main() {{ return model_quantize_pixel(3, 0); }}\n")
        command = [*compiler, "-std=c++11", *flags, f"-I{folder}", f"-I{folder / 'kernels'}", "-fsyntax-only"]
        subprocess.run([*command, "use.cpp"], cwd=folder, check=True)


def test_cppcheck_finds_nothing(tmp_path: Path) -> None:
    if shutil.which("cppcheck") is None:
        pytest.skip("cppcheck is not installed")
    command = ["cppcheck", "--std=c99", "--enable=warning,style,performance,portability", "--error-exitcode=1", "-q"]
    for name in NETWORKS:
        for family in FAMILIES:
            firmware(network(name), family, tmp_path / "firmware" / name / family)
    done = subprocess.run([*command, str(tmp_path / "firmware")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (tmp_path / "wrong.c").write_text("int f(void)\n{\n    int a[2] = {0};\n    return a[2];\n}\n")
    assert subprocess.run([*command, str(tmp_path / "wrong.c")], capture_output=True).returncode == 1
