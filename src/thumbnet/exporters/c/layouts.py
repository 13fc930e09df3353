"""The firmware as a build system expects it: plain CMake, an Arduino or PlatformIO library, a Zephyr module.

The network's sources are the same bytes in every layout; only their places, the examples and the metadata differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from thumbnet.errors import UsageError
from thumbnet.exporters.c import spell
from thumbnet.exporters.c.emit import template
from thumbnet.targets.target import Isa, Target

Layout = Literal["cmake", "arduino", "platformio", "zephyr"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
MAX_NAME = 40  # Arduino allows 63 characters of a library's name, PlatformIO 50
VERSION = "1.0.0"  # of the library; every tool wants one, and it is the user's to count up
_OWN = ("main.c", "CMakeLists.txt", "README.txt")  # files that a layout has its own counterparts of

_STACK_BYTES = 1280  # where model.h states no bound: the kernels are not ours

# What Zephyr's configuration must say of a core before kernels of that instruction set assemble and run.
_ZEPHYR_NEEDS: Mapping[Isa, tuple[str, ...]] = {
    "generic": ("CPU_CORTEX_M",),
    "v7m": ("ARMV7_M_ARMV8_M_MAINLINE",),
    "dsp": ("CPU_CORTEX_M4", "CPU_CORTEX_M7", "ARMV8_M_DSP"),
    "mve": ("ARMV8_1_M_MVEI",),
}


def check_layout(layout: str) -> Layout:
    """`layout` itself. Raises `UsageError` where there is none of that name."""
    for known in LAYOUTS:
        if layout == known:
            return known
    raise UsageError(f"There is no layout '{layout}'.", f"Choose one of {', '.join(LAYOUTS)}.")


def lay_out(files: Mapping[str, str], layout: Layout, *, name: str, target: Target) -> dict[str, str]:
    """The files of `emit`, by the relative paths they have in `layout`, and what that layout needs besides.

    `name` is the network's: library, example and configuration symbol are called after it.
    """
    if layout == "cmake":
        return dict(files)
    moved = {place(path, layout): text for path, text in files.items() if path not in _OWN and path != "test_vector.h"}
    return moved | _MORE[layout](_Words.of(name, target, files))


def place(path: str, layout: Layout) -> str:
    """Where a source of the network, by its path in the CMake layout, lies in `layout`."""
    if layout == "cmake":
        return path
    return f"include/{path}" if path == "model.h" and layout != "arduino" else f"src/{path}"


@dataclass(frozen=True)
class _Words:
    """How the network is called in metadata, and what templates ask for."""

    slug: str  # letters, digits and dashes
    files: Mapping[str, str]  # of `emit`
    values: Mapping[str, Any]

    @staticmethod
    def of(name: str, target: Target, files: Mapping[str, str]) -> _Words:
        slug = _slug(name)
        words = slug.replace("-", "_")
        stated = dict(re.findall(r"MODEL_(ARENA|STACK)_BYTES (\d+)", files["model.h"]))
        needs = _ZEPHYR_NEEDS[target.core.isa]
        values = {
            "slug": slug,
            "words": words,
            "header": f"{words}_model.h",  # Arduino finds libraries by the names of their headers
            "symbol": f"MODEL_{words.upper()}",
            "title": spell.comment(name).replace("\\", "/"),
            "version": VERSION,
            "target": spell.comment(f"{target.title} ({target.core.name})"),
            "isa": target.core.isa,
            "needs": needs,
            "arena_bytes": int(stated["ARENA"]),
            "stack_bytes": int(stated.get("STACK", _STACK_BYTES)),
            "test_vector": "test_vector.h" in files,
        }
        return _Words(slug, files, values)

    def rendered(self, layout: Layout, names: Mapping[str, str]) -> dict[str, str]:
        """Templates of the layout, by the path that each one is written to."""
        return {path: template(f"{layout}/{name}.j2").render(self.values) for path, name in names.items()}

    def test_vector(self, folder: str) -> dict[str, str]:
        """The test vector, if there is one, beside an example."""
        return {f"{folder}/{f}": self.files[f] for f in ("test_vector.h",) if f in self.files}


def _slug(name: str) -> str:
    """Lower case letters, digits and single dashes, as every layout's metadata allows."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MAX_NAME].strip("-")
    reserved = slug.startswith("arduino")  # Arduino keeps such names for itself
    return slug if re.search("[a-z]", slug) and not reserved else f"network-{slug}".strip("-")


def _arduino(words: _Words) -> dict[str, str]:
    sketch = f"examples/{words.slug}"
    names = {
        "library.properties": "library.properties",
        "keywords.txt": "keywords.txt",
        f"src/{words.values['header']}": "header.h",
        f"{sketch}/{words.slug}.ino": "example.ino",
        "README.txt": "README.txt",
    }
    return words.rendered("arduino", names) | words.test_vector(sketch)


def _platformio(words: _Words) -> dict[str, str]:
    arduino, bare = "examples/arduino", "examples/bare"
    sketch = template("arduino/example.ino.j2").render({**words.values, "header": "model.h"})
    made = {
        f"{arduino}/main.cpp": f"#include <Arduino.h>\n\n{sketch}",
        f"{bare}/main.c": words.files["main.c"],
        **words.test_vector(arduino),
        **words.test_vector(bare),
    }
    manifest = {
        "name": words.slug,
        "version": VERSION,
        "description": f"The int8 network {words.values['title']} for {words.values['target']}, as plain C"[:255],
        "keywords": ["tinyml", "neural network", "inference", "cortex-m"],
        "frameworks": "*",
        "platforms": "*",
        "headers": "model.h",
        "build": {"unflags": "-Os", "flags": "-O2"},
        "export": {"include": ["include", "src", "examples", "library.json", "README.txt"]},
        "examples": [
            {"name": name, "base": base, "files": sorted(p.rsplit("/", 1)[1] for p in made if p.startswith(base))}
            for name, base in (("Arduino framework", arduino), ("Any other framework", bare))
        ],
    }
    texts = words.rendered("platformio", {"README.txt": "README.txt"})
    return {"library.json": json.dumps(manifest, indent=2) + "\n", **texts, **made}


def _zephyr(words: _Words) -> dict[str, str]:
    sample = f"samples/{words.slug}"
    names = {
        "zephyr/module.yml": "module.yml",
        "zephyr/Kconfig": "Kconfig",
        "CMakeLists.txt": "CMakeLists.txt",
        f"{sample}/CMakeLists.txt": "sample_CMakeLists.txt",
        f"{sample}/prj.conf": "prj.conf",
        f"{sample}/sample.yaml": "sample.yaml",
        f"{sample}/src/main.c": "main.c",
        "README.txt": "README.txt",
    }
    sources = sorted(place(p, "zephyr") for p in words.files if p.endswith((".c", ".S")) and p not in _OWN)
    words = _Words(words.slug, words.files, {**words.values, "sources": sources})
    return words.rendered("zephyr", names) | words.test_vector(f"{sample}/src")


_MORE: Mapping[Layout, Callable[[_Words], dict[str, str]]] = {
    "arduino": _arduino,
    "platformio": _platformio,
    "zephyr": _zephyr,
}
