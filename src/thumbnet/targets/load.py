"""Targets by name: the boards and cores that ship with Thumbnet, and the user's own TOML files."""

from __future__ import annotations

import difflib
import os
import tomllib
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from thumbnet.errors import TargetError, UsageError
from thumbnet.targets.target import Core, Isa, Target
from thumbnet.targets.units import parse_size

MAX_TOML_BYTES = 64 << 10
MAX_FLASH_BYTES = 256 << 20
MAX_RAM_BYTES = 64 << 20
# A bare core, such as "cortex-m4": memory that no network of this field exceeds, and a round clock.
CORE_FLASH_BYTES, CORE_RAM_BYTES, CORE_CLOCK_HZ = 32 << 20, 8 << 20, 100_000_000


def _size(value: Any) -> int:
    try:
        return parse_size(value)
    except UsageError as e:
        raise ValueError(str(e)) from e


Size = Annotated[int, BeforeValidator(_size)]
Address = Annotated[int, Field(ge=0, lt=1 << 32, multiple_of=1024)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _CoreFile(_File):
    name: str
    architecture: Literal["armv6-m", "armv7-m", "armv7e-m", "armv8-m.main", "armv8.1-m.main"]
    isa: Isa
    zig_cpu: dict[Isa, str]  # kernel family -> compiler's name of the core with the extensions it needs
    float_abi: Literal["soft", "hard"]
    unicorn_model: str | None = None
    qemu_machine: str | None = None
    cycle_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    source: str
    cycles: dict[str, Annotated[float, Field(ge=0, le=64)]]

    @model_validator(mode="after")
    def _possible(self) -> _CoreFile:
        if self.isa not in self.zig_cpu:
            raise ValueError(f"zig_cpu has no entry for its isa '{self.isa}'")
        possible = {
            "armv6-m": ["generic"],
            "armv7-m": ["generic", "v7m"],
            "armv8.1-m.main": ["generic", "dsp", "mve"],
        }
        for isa in self.zig_cpu:
            if isa not in possible.get(self.architecture, ["generic", "dsp"]):
                raise ValueError(f"{self.architecture} has no '{isa}' instructions")
        if self.float_abi == "hard" and self.architecture in ("armv6-m", "armv7-m"):
            raise ValueError(f"{self.architecture} has no floating-point unit")
        return self

    def with_isa(self, isa: Isa | None) -> Core:
        chosen = isa or self.isa
        if chosen not in self.zig_cpu:
            raise TargetError(f"{self.name} has no '{chosen}' instructions.", f"It can run: {', '.join(self.zig_cpu)}.")
        rest = self.model_dump(exclude={"isa", "zig_cpu"})
        return Core(isa=chosen, zig_cpu=self.zig_cpu[chosen], **rest)


class _BoardFile(_File):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    core: str
    isa: Isa | None = None  # less than the core can do, for parts built without an extension
    flash: Annotated[Size, Field(le=MAX_FLASH_BYTES)]
    ram: Annotated[Size, Field(le=MAX_RAM_BYTES)]
    clock_hz: Annotated[int, Field(gt=0, le=2_000_000_000)]
    wait_states: Annotated[int, Field(ge=0, le=31)] | None = None
    flash_origin: Address = 0x0000_0000
    ram_origin: Address = 0x2000_0000
    source: str = ""
    active_ma: Annotated[float, Field(gt=0, le=10_000)] | None = None
    supply_v: Annotated[float, Field(ge=0.5, le=60)] | None = None

    @model_validator(mode="after")
    def _paired(self) -> _BoardFile:
        if (self.active_ma is None) != (self.supply_v is None):
            raise ValueError("active_ma and supply_v go together: a current says nothing without its voltage")
        return self

    @model_validator(mode="after")
    def _apart(self) -> _BoardFile:
        flash_end, ram_end = self.flash_origin + self.flash, self.ram_origin + self.ram
        if max(flash_end, ram_end) > 0xE000_0000:
            raise ValueError("memory reaches into the system region at 0xE0000000")
        if self.flash_origin < ram_end and self.ram_origin < flash_end:
            raise ValueError("flash and RAM overlap")
        return self


def load_target(name_or_path: str | Path) -> Target:
    """The board or core of that name, or the one that a TOML file describes.

    Names are looked up in ./targets, then in ~/.config/thumbnet/targets (or under $XDG_CONFIG_HOME), then
    among the boards and cores that ship with Thumbnet. Raises `TargetError` for an unknown name (it suggests
    the closest), a file that cannot be read, and a description that cannot be true.
    """
    text = str(name_or_path)
    if text.endswith(".toml") or isinstance(name_or_path, Path) or os.sep in text:
        return _board(_read(Path(name_or_path)), str(name_or_path))
    name = text.strip().lower().replace("m0+", "m0plus")
    own = _own_boards()
    if name in own:
        return _board(_read(own[name]), str(own[name]))
    if name in _shipped("boards"):
        return _board(_read(_shipped("boards")[name]), name)
    if name in _shipped("cores"):
        return _bare(_core(name))
    close = _closest(name)
    hint = f"Did you mean {' or '.join(close)}?" if close else "`thumbnet targets` lists them."
    raise TargetError(f"There is no target '{text}'.", f"{hint} A path to a TOML file of your own works too.")


def _closest(name: str) -> list[str]:
    """Up to three names like this one, or whose title ("Blue Pill") holds it."""
    squeezed = "".join(c for c in name if c.isalnum())
    titled = [n for n in _shipped("boards") if squeezed in "".join(filter(str.isalnum, load_target(n).title.lower()))]
    return (titled or difflib.get_close_matches(name, available_targets(), n=3, cutoff=0.5))[:3]


def available_targets() -> list[str]:
    """Names that `load_target` knows here: boards first, the user's own among them, then bare cores."""
    boards = sorted({*_shipped("boards"), *_own_boards()})
    return boards + [c for c in sorted(_shipped("cores")) if c not in boards]


def _bare(core: _CoreFile) -> Target:
    title = f"{core.name.replace('cortex-m', 'Cortex-M').replace('plus', '+')}, memory as needed"
    return Target(
        core.name, title, core.with_isa(None), CORE_FLASH_BYTES, CORE_RAM_BYTES, CORE_CLOCK_HZ, 0, core.source
    )


def _board(data: dict[str, Any], where: str) -> Target:
    try:
        b = _BoardFile.model_validate(data)
    except ValidationError as e:
        raise _refused(where, e) from e
    if b.core not in _shipped("cores"):
        close = difflib.get_close_matches(b.core, _shipped("cores"), n=1)
        raise TargetError(
            f"{where}: there is no core '{b.core}'.",
            f"Did you mean '{close[0]}'?" if close else f"Known are {', '.join(sorted(_shipped('cores')))}.",
        )
    core = _core(b.core).with_isa(b.isa)
    return Target(
        b.name,
        b.title,
        core,
        b.flash,
        b.ram,
        b.clock_hz,
        b.wait_states,
        b.source,
        b.flash_origin,
        b.ram_origin,
        b.active_ma,
        b.supply_v,
    )


@lru_cache
def _core(name: str) -> _CoreFile:
    try:
        return _CoreFile.model_validate(_read(_shipped("cores")[name]))
    except ValidationError as e:
        raise _refused(name, e) from e


def _refused(where: str, error: ValidationError) -> TargetError:
    first = error.errors()[0]
    field = ".".join(str(p) for p in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return TargetError(
        f"{where}: {f'{field}: ' if field else ''}{reason}.", "Correct the file; the manual lists the fields."
    )


@lru_cache
def _shipped(folder: Literal["boards", "cores"]) -> dict[str, Traversable]:
    found = (f for f in files("thumbnet.targets").joinpath(folder).iterdir() if f.name.endswith(".toml"))
    return {f.name.removesuffix(".toml"): f for f in sorted(found, key=lambda f: f.name)}


def _own_boards() -> dict[str, Path]:
    """The user's files by name; the current folder's win."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    folders = (config / "thumbnet" / "targets", Path("targets"))
    return {f.stem.lower(): f for folder in folders if folder.is_dir() for f in sorted(folder.glob("*.toml"))}


def _read(path: Path | Traversable) -> dict[str, Any]:
    try:
        with path.open("rb") as f:
            data = f.read(MAX_TOML_BYTES + 1)
    except FileNotFoundError as e:
        raise TargetError(f"{path} does not exist.", "`thumbnet targets` lists the boards that ship.") from e
    except OSError as e:
        raise TargetError(f"{path} cannot be read: {e.strerror}.") from e
    if len(data) > MAX_TOML_BYTES:
        raise TargetError(f"{path} is larger than {MAX_TOML_BYTES // 1024} KB, so it is no description of a board.")
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise TargetError(f"{path} is not valid TOML: {e}.") from e
