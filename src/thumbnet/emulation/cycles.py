"""Modelled cycles: exact execution counts times the core's costs per class of instruction.

The costs come from the core's technical reference manual where Arm publishes them (Cortex-M0+, M3, M4), at zero wait
states; elsewhere they are the Cortex-M4's, scaled by what vendors measured on networks of this kind. The model knows
no cache, no flash wait states and no stalls between dependent instructions: Cortex-M4 boards measured 1.24 to 1.43
times what it says. Instruction counts are exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.emulation.counts import Counts
from thumbnet.emulation.sizes import Image, Symbol
from thumbnet.errors import ToolchainError
from thumbnet.targets import Core

CLASSES = {
    "alu": "data processing, moves, extends, compares",
    "load": "one register from memory",
    "load_pipelined": "the same, right behind another load or store of one register",
    "store": "one register to memory",
    "load_double": "LDRD",
    "store_double": "STRD",
    "multiple": "LDM, STM, PUSH, POP, without their registers",
    "multiple_register": "each register of LDM, STM, PUSH, POP, VLDM, VSTM",
    "mul": "32-bit product",
    "mla": "32-bit multiply-accumulate",
    "mul_long": "64-bit product",
    "mla_long": "64-bit multiply-accumulate",
    "simd": "the DSP extension: dual 16-bit products, packing, saturation",
    "div": "SDIV, UDIV",
    "branch_taken": "B, B<cond>, CBZ, CBNZ, LE when taken",
    "branch_not_taken": "the same when not taken",
    "call": "BL, BLX",
    "branch_indirect": "BX",
    "table_branch": "TBB, TBH",
    "load_pc": "added where a load or POP writes the program counter",
    "it": "IT",
    "fpu": "scalar floating point",
    "vector": "Helium",
    "scale": "factor on the sum",
}
_DEFAULTS = {"it": 1.0, "scale": 1.0, "fpu": 1.0, "vector": 2.0}

_CONDITION = r"(?:eq|ne|hs|cs|lo|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al)?"
_PATTERNS = [  # first match wins; the mnemonic comes without width suffix
    ("it", r"it[te]*"),
    ("branch", rf"b{_CONDITION}|cbn?z|le|lctp"),
    ("call", rf"blx?{_CONDITION}"),
    ("branch_indirect", rf"bx{_CONDITION}"),
    ("table_branch", r"tb[bh]"),
    ("load_double", rf"ldrd{_CONDITION}"),
    ("store_double", rf"strd{_CONDITION}"),
    ("multiple", rf"(?:ldm|stm|vldm|vstm)(?:ia|db|ea|fd)?{_CONDITION}|v?push{_CONDITION}|v?pop{_CONDITION}"),
    ("load", rf"ldr(?:s?[bh])?t?{_CONDITION}"),
    ("store", rf"str[bh]?t?{_CONDITION}"),
    ("div", rf"[su]div{_CONDITION}"),
    ("mla_long", rf"[su]mlal{_CONDITION}|umaal{_CONDITION}"),
    ("mul_long", rf"[su]mull{_CONDITION}"),
    ("mla", rf"ml[as]{_CONDITION}"),
    ("mul", rf"muls?{_CONDITION}"),
    (
        "simd",
        r"sm(?!c).*|pkh.*|[su]sat.*|[su]xta?b16.*|[suq](?:h|q)?(?:add|sub|asx|sax).+|sel.*|usad.*|q(?:add|sub|asx|sax|dadd|dsub).*",
    ),
    ("load", r"vldr.*"),
    ("store", r"vstr.*"),
    ("vector", r"(?:v|w?dls|wls).*"),
]
_COMPILED = [(name, re.compile(pattern)) for name, pattern in _PATTERNS]


@dataclass(frozen=True)
class CallCost:
    """One call that `model_invoke` makes, in order, everything below it included."""

    function: str
    instructions: int
    cycles: int


@dataclass(frozen=True)
class _Instruction:
    kind: str
    registers: int  # of a multiple load or store
    writes_pc: bool
    bytes: int
    conditional: bool


def classify(mnemonic: str) -> str:
    """The class (a key of `CLASSES`, or "branch") of a disassembled instruction."""
    plain = mnemonic.lower().split(".")[0]
    vector = plain.startswith("v") and re.search(r"\.[sui]?(?:8|16|32)$", mnemonic) is not None
    for name, pattern in _COMPILED:
        if pattern.fullmatch(plain):
            return "fpu" if name == "vector" and re.search(r"\.f(?:32|64)$", mnemonic) and not vector else name
    return "alu"


def call_costs(counts: Counts, image: Image, core: Core) -> tuple[CallCost, ...]:
    """Costs of each call of `model_invoke` in the order of execution; together they are all that ran.

    What `model_invoke` itself executes goes with the call that it leads up to; its end goes with the last one.
    """
    cost = _cost_per_execution(counts, core)
    begins = counts.starts()
    branches = _branch_extra(counts, core)
    scale = core.cycles.get("scale", 1.0)
    top = image.symbol("model_invoke")
    calls: list[tuple[str, int, float]] = []
    pending = (0, 0.0)
    for row, taken in zip(counts.executed, branches, strict=True):
        instructions = int(row[begins].sum()) + pending[0]
        cycles = float((row[begins] * cost[begins]).sum() + taken) + pending[1]
        callee = _callee(counts, image, row, top)
        if callee is None:
            pending = (instructions, cycles)
        else:
            calls.append((callee, instructions, cycles))
            pending = (0, 0.0)
    function, instructions, cycles = calls.pop() if calls else (top.name, 0, 0.0)
    calls.append((function, instructions + pending[0], cycles + pending[1]))
    return tuple(CallCost(f, n, round(c * scale)) for f, n, c in calls)


def function_costs(counts: Counts, image: Image, core: Core) -> dict[str, CallCost]:
    """Instructions and cycles by function, callees not included, the costliest first."""
    cost = _cost_per_execution(counts, core) * core.cycles.get("scale", 1.0)
    begins, total = counts.starts(), counts.executed.sum(0)
    found = {}
    for f in image.functions:
        part = slice((f.address - counts.base) // 2, (f.address + f.bytes - counts.base) // 2)
        ran = total[part][begins[part]]
        if ran.sum():
            found[f.name] = CallCost(f.name, int(ran.sum()), round(float((ran * cost[part][begins[part]]).sum())))
    return dict(sorted(found.items(), key=lambda item: (-item[1].cycles, item[0])))


def _callee(counts: Counts, image: Image, row: npt.NDArray[np.int64], top: Symbol) -> str | None:
    """The function outside of `model_invoke` that this segment spends most in; None where it calls nothing."""
    best: tuple[int, str] | None = None
    for f in image.functions:
        if f.name == top.name:
            continue
        ran = int(row[(f.address - counts.base) // 2 : (f.address + f.bytes - counts.base) // 2].sum())
        if ran and (best is None or ran > best[0]):
            best = (ran, f.name)
    return best[1] if best else None


def _disassemble(counts: Counts) -> Iterator[tuple[int, _Instruction]]:
    """(halfword index, instruction) for each instruction that ran, in order of address."""
    engine = disassembler()
    for h in np.flatnonzero(counts.starts()):
        at = int(h) * 2
        decoded = next(iter(engine.disasm_lite(counts.code[at : at + 4], counts.base + at, 1)), None)
        if decoded is None:  # newer than the disassembler: Helium and low-overhead loops
            yield int(h), _Instruction("vector", 0, False, 4, False)
        else:
            _, size, mnemonic, operands = decoded
            yield int(h), _instruction(mnemonic, operands, size)


def _instruction(mnemonic: str, operands: str, size: int) -> _Instruction:
    kind = classify(mnemonic)
    conditional = kind == "branch" and mnemonic.split(".")[0] != "b"
    listed = re.search(r"\{(.*)\}", operands)
    registers = listed[1].count(",") + 1 if kind == "multiple" and listed else 0
    writes_pc = (kind == "multiple" and not mnemonic.startswith(("push", "stm")) and "pc" in operands) or (
        kind == "load" and operands.startswith("pc,")
    )
    return _Instruction(kind, registers, writes_pc, size, conditional)


def _cost_per_execution(counts: Counts, core: Core) -> npt.NDArray[np.float64]:
    """Cycles of one execution of the instruction that begins at each halfword; branches as if not taken."""
    table = {**_DEFAULTS, **core.cycles}
    cost = np.zeros(len(counts.code) // 2)
    end_of_access = -1  # where the last load or store of one register ended
    for h, i in _disassemble(counts):
        kind = "branch_taken" if i.kind == "branch" and not i.conditional else i.kind
        kind = "branch_not_taken" if kind == "branch" else kind
        if kind == "load" and end_of_access == h:
            kind = "load_pipelined"
        cost[h] = _price(table, kind) + i.registers * _price(table, "multiple_register")
        if i.writes_pc:
            cost[h] += _price(table, "load_pc")
        if i.kind in ("load", "store"):
            end_of_access = h + i.bytes // 2
    return cost


def _branch_extra(counts: Counts, core: Core) -> list[float]:
    """Per segment: what taken conditional branches cost beyond untaken ones."""
    extra = _price(core.cycles, "branch_taken") - _price(core.cycles, "branch_not_taken")
    ends = np.zeros(counts.taken.shape[1], np.bool_)
    for h, i in _disassemble(counts):
        ends[h + i.bytes // 2] = i.conditional
    return [float(row[ends].sum() * extra) for row in counts.taken]


def _price(table: Mapping[str, float], kind: str) -> float:
    return table.get(kind, table["alu"])


@lru_cache
def disassembler() -> Any:
    """Capstone for Cortex-M. Raises `ToolchainError` where it is not installed."""
    try:
        import capstone
    except ImportError as e:
        raise ToolchainError("The disassembler 'capstone' is not installed.", "Run `pip install capstone`.") from e
    return capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8)
