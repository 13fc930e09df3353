"""Boards and cores: data that refuses impossible combinations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Isa = Literal["generic", "v7m", "dsp", "mve"]


@dataclass(frozen=True)
class Core:
    """An Arm Cortex-M core as far as code generation, emulation and the cycle model need it."""

    name: str  # "cortex-m4"
    architecture: str  # "armv7e-m"
    isa: Isa  # family of kernels it can run
    zig_cpu: str  # "cortex_m4"
    float_abi: Literal["soft", "hard"]
    unicorn_model: str | None  # name in unicorn's table, None where it cannot run the core
    qemu_machine: str | None
    cycles: Mapping[str, float]  # instruction class -> cycles, see thumbnet.emulation.cycles
    source: str
    cycle_error: float | None = None  # modelled cycles may be off by this fraction; None: no defensible model


@dataclass(frozen=True)
class Target:
    """A board: a core with memory around it."""

    name: str  # "nrf52840"
    title: str  # "Nordic nRF52840"
    core: Core
    flash_bytes: int
    ram_bytes: int  # the largest contiguous piece that code and data may use
    clock_hz: int
    wait_states: int | None  # of flash at that clock, cache and prefetch aside; None where it depends on the board
    source: str  # data sheet
    flash_origin: int = 0x0000_0000
    ram_origin: int = 0x2000_0000
    active_ma: float | None = None  # drawn at `clock_hz` while the core runs from flash; None where no figure is known
    supply_v: float | None = None  # at which `active_ma` is drawn

    @property
    def active_mw(self) -> float | None:
        """What the running core draws, in mW; None where the description has no figure."""
        return None if self.active_ma is None or self.supply_v is None else self.active_ma * self.supply_v
