"""Each layout holds the same sources, in places where its build system finds them, and says what that one asks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from firmware_networks import CORES, FAMILIES, network, samples

import thumbnet.emulation
from thumbnet.emulation.toolchain import build
from thumbnet.errors import UsageError
from thumbnet.exporters.c import LAYOUTS, Layout, check_layout, emit, lay_out, place, write_firmware
from thumbnet.integer.simulate import run
from thumbnet.targets import load_target
from thumbnet.targets.target import Target

yaml = pytest.importorskip("yaml")

M0, M4 = load_target("rp2040"), load_target("nrf52840")
ZIG = [sys.executable, "-m", "ziglang"]
RUNTIME = Path(thumbnet.emulation.__path__[0]) / "firmware/include"  # string.h
FLAGS = ["-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-Wno-unused-command-line-argument"]
OTHERS: list[Layout] = [layout for layout in LAYOUTS if layout != "cmake"]
NAME, SLUG = "Keyword Spotting_v2", "keyword-spotting-v2"
INCLUDES = {"arduino": ["-Isrc"], "platformio": ["-Iinclude", "-Isrc"], "zephyr": ["-Iinclude"]}  # as the tools set

ARDUINO = """
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct Port {
    void begin(long) {}
    explicit operator bool() const { return true; }
    void print(const char *s) { fputs(s, stdout); }
    void print(char c) { putchar(c); }
    void print(int v) { printf("%d", v); }
    void print(unsigned long v) { printf("%lu", v); }
    void println(const char *s = "") { puts(s); }
};
static Port Serial;
static inline unsigned long micros() { return 0; }
static inline unsigned long millis() { return 0; }
static inline void delay(unsigned long) { exit(0); }
"""
RUN_SKETCH = "int main() { setup(); for (;;) { loop(); } }\n"
ZEPHYR = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#define printk printf
static inline uint32_t k_cycle_get_32(void) { return 0; }
static inline uint32_t k_cyc_to_us_floor32(uint32_t cycles) { return cycles; }
static inline int k_msleep(int ms) { (void)ms; exit(0); }
"""


def firmware(target: Target = M4, test_vector: bool = True) -> dict[str, str]:
    ig = network("mobile")
    x = samples(ig)[:1]
    vector = (x.tobytes(), run(ig, x)[ig.outputs[0]].tobytes()) if test_vector else None
    return emit(ig, target, test_vector=vector)


def laid_out(layout: Layout, target: Target = M4, name: str = NAME, **options: bool) -> dict[str, str]:
    return lay_out(firmware(target, **options), layout, name=name, target=target)


def compilers() -> list[str]:
    return [c for c in ("gcc", "clang") if shutil.which(c) and shutil.which(cxx(c))]


def cxx(compiler: str) -> str:
    return {"gcc": "g++", "clang": "clang++"}[compiler]


def compiled(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def for_arm(target: Target) -> list[str]:
    abi = "eabihf" if target.core.float_abi == "hard" else "eabi"
    flags = ["-target", f"thumb-freestanding-{abi}", f"-mcpu={target.core.zig_cpu}", f"-I{RUNTIME}", "-std=c99"]
    return [*ZIG, "cc", *FLAGS, *flags]


def sources(folder: Path) -> list[str]:
    """What Arduino and PlatformIO compile of a library: all of src."""
    return sorted(str(p.relative_to(folder)) for p in (folder / "src").rglob("*") if p.suffix in (".c", ".S", ".cpp"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sources_are_the_same_bytes_in_every_layout(layout: Layout) -> None:
    files, made = firmware(), laid_out(layout)
    same = {path for path in files if path in ("model.h", "model.c") or path.startswith("kernels/")}
    assert len(same) > 10
    for path in same:
        assert made[place(path, layout)] == files[path]
    vectors = [text for path, text in made.items() if path.endswith("test_vector.h")]
    assert vectors
    assert set(vectors) == {files["test_vector.h"]}
    copies = [p for p in made if p.endswith((".c", ".S")) and not p.endswith("main.c")]
    assert len(copies) == len([p for p in same if not p.endswith(".h")])
    assert all(not Path(p).is_absolute() and ".." not in Path(p).parts for p in made)


def test_the_cmake_layout_is_what_emit_gives(tmp_path: Path) -> None:
    assert laid_out("cmake") == firmware()
    write_firmware(tmp_path, laid_out("cmake"))
    assert build(tmp_path, M4).elf.exists()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", OTHERS)
def test_libraries_compile_for_the_target(layout: Layout, family: str, tmp_path: Path) -> None:
    target = load_target(CORES[family])
    write_firmware(tmp_path, laid_out(layout, target))
    if layout == "zephyr":
        named = re.findall(r"^    (\S+)$", (tmp_path / "CMakeLists.txt").read_text(), re.MULTILINE)
        assert sorted(named) == sources(tmp_path)
    compiled([*for_arm(target), *INCLUDES[layout], "-r", "-o", "library.o", *sources(tmp_path)], tmp_path)


@pytest.mark.parametrize("compiler", compilers())
@pytest.mark.parametrize("layout", OTHERS)
def test_examples_compile_and_run(layout: Layout, compiler: str, tmp_path: Path) -> None:
    """On this machine, with stand-ins for the frameworks: the library, and the application in front of it."""
    write_firmware(tmp_path, laid_out(layout, M0))
    stubs = tmp_path / "stubs/zephyr/sys"
    stubs.mkdir(parents=True)
    (tmp_path / "stubs/Arduino.h").write_text(ARDUINO)
    (stubs / "printk.h").write_text("")
    (stubs.parent / "kernel.h").write_text(ZEPHYR)
    includes = [*INCLUDES[layout], "-Istubs"]
    compiled([compiler, *FLAGS, "-std=gnu11", *includes, "-c", *sources(tmp_path)], tmp_path)
    objects = [f"{Path(s).stem}.o" for s in sources(tmp_path)]
    application = [cxx(compiler), "-std=gnu++11"]
    if layout == "arduino":
        sketch = tmp_path / f"examples/{SLUG}/{SLUG}.ino"
        text = f"#include <Arduino.h>\n#line 1\n{sketch.read_text()}{RUN_SKETCH}"
        (sketch.parent / "sketch.cpp").write_text(text)  # what Arduino makes of it
        program = f"examples/{SLUG}/sketch.cpp"
    elif layout == "platformio":
        main = tmp_path / "examples/arduino/main.cpp"
        main.write_text(main.read_text() + RUN_SKETCH)
        program = "examples/arduino/main.cpp"
    else:
        application, program = [compiler, "-std=gnu11"], f"samples/{SLUG}/src/main.c"
    compiled([*application, *FLAGS, *includes, "-o", "app", program, *objects], tmp_path)
    done = subprocess.run([tmp_path / "app"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "test vector: equal" in done.stdout
    if layout == "platformio":
        bare = ["-std=gnu11", *includes, "-DMODEL_SELF_TEST", "-o", "bare", "examples/bare/main.c", *objects]
        compiled([compiler, *FLAGS, *bare], tmp_path)
        assert subprocess.run([tmp_path / "bare"]).returncode == 0


def test_arduino_is_told_what_its_specification_asks_for() -> None:
    made = laid_out("arduino")
    lines = made["library.properties"].splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    assert list(properties) == [
        *("name", "version", "author", "maintainer", "sentence", "paragraph"),
        *("category", "url", "architectures", "includes"),
    ]
    assert all(properties.values())
    assert re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,62}", properties["name"])
    assert properties["category"] == "Data Processing"
    assert "Nordic nRF52840" in properties["sentence"]
    assert f"src/{properties['includes']}" in made
    words = made[f"src/{properties['includes']}"] + made["src/model.h"]
    for line in made["keywords.txt"].splitlines()[1:]:
        word, kind = line.split("\t")
        assert kind in ("KEYWORD2", "LITERAL1")
        optional = ("model_class_name", "model_quantize_pixel", "MODEL_CLASSES", "MODEL_STACK_BYTES")
        assert re.search(rf"\b{word}\b", words) or word in optional


def test_platformio_is_told_where_everything_is() -> None:
    made = laid_out("platformio")
    manifest = json.loads(made["library.json"])
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", manifest["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])
    assert f"include/{manifest['headers']}" in made
    named = {f"{e['base']}/{f}" for e in manifest["examples"] for f in e["files"]}
    assert named == {p for p in made if p.startswith("examples/")}
    assert all(p.split("/")[0] in manifest["export"]["include"] for p in made)


def test_zephyr_is_told_what_to_build_and_what_the_kernels_need() -> None:
    for target, needs in (M0, ["CPU_CORTEX_M"]), (M4, ["CPU_CORTEX_M4", "CPU_CORTEX_M7", "ARMV8_M_DSP"]):
        made = laid_out("zephyr", target)
        module = yaml.safe_load(made["zephyr/module.yml"])
        assert module["name"] == SLUG
        assert f"{module['build']['cmake']}/CMakeLists.txt".removeprefix("./") in made
        assert module["build"]["kconfig"] in made
        assert all(any(p.startswith(f"{folder}/") for p in made) for folder in module["samples"])
        symbol = "MODEL_KEYWORD_SPOTTING_V2"
        assert f"config {symbol}\n" in made["zephyr/Kconfig"]
        assert f"\tdepends on {' || '.join(needs)}\n" in made["zephyr/Kconfig"]
        sample = f"samples/{SLUG}"
        (test,) = yaml.safe_load(made[f"{sample}/sample.yaml"])["tests"].values()
        assert test["filter"] == " or ".join(f"CONFIG_{n}" for n in needs)
        assert test["harness_config"]["regex"][0] in made[f"{sample}/src/main.c"].replace("%s", "equal")
        settings = dict(line.split("=") for line in made[f"{sample}/prj.conf"].splitlines())
        assert settings[f"CONFIG_{symbol}"] == "y"
        assert int(settings["CONFIG_MAIN_STACK_SIZE"]) > 1024


def test_cmake_reads_the_zephyr_module(tmp_path: Path) -> None:
    """With stand-ins for Zephyr's functions: every source that is named exists, none while it is switched off."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    write_firmware(tmp_path, laid_out("zephyr"))
    script = tmp_path / "check.cmake"
    script.write_text(
        "cmake_policy(VERSION 3.13)\n"
        "macro(zephyr_include_directories)\nendmacro()\nmacro(zephyr_library)\nendmacro()\n"
        "macro(zephyr_library_compile_options)\nendmacro()\n"
        "function(zephyr_library_sources)\nforeach(f ${ARGV})\n"
        'if(NOT EXISTS "${CMAKE_CURRENT_LIST_DIR}/${f}")\nmessage(FATAL_ERROR "no ${f}")\nendif()\n'
        'message("compiles ${f}")\nendforeach()\nendfunction()\n'
        "include(${CMAKE_CURRENT_LIST_DIR}/CMakeLists.txt)\n"
    )
    counts = []
    for value in ("y", ""):
        command = ["cmake", f"-DCONFIG_MODEL_KEYWORD_SPOTTING_V2={value}", "-P", str(script)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        counts.append(done.stderr.count("compiles"))
    assert counts == [len(sources(tmp_path)), 0]


@pytest.mark.parametrize("within", [False, True])
def test_cmake_builds_the_application_alone_and_the_library_within_another(within: bool, tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("cc") is None or not shutil.which("make"):
        pytest.skip("cmake, make or a host compiler is not installed")
    write_firmware(tmp_path / "net", laid_out("cmake", M0))
    if within:
        (tmp_path / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.13)\nproject(product C)\nadd_subdirectory(net)\n"
            "add_executable(app net/main.c)\ntarget_link_libraries(app PRIVATE model)\n"
            "target_compile_definitions(app PRIVATE MODEL_SELF_TEST)\n"
        )
    source = tmp_path if within else tmp_path / "net"
    compiled(["cmake", "-S", str(source), "-B", "b", "-DMODEL_SELF_TEST=ON"], tmp_path)
    compiled(["cmake", "--build", "b"], tmp_path)
    assert subprocess.run([tmp_path / "b/app"]).returncode == 0


@pytest.mark.parametrize("layout", OTHERS)
def test_without_a_test_vector_nothing_mentions_it(layout: Layout) -> None:
    made = laid_out(layout, test_vector=False)
    example = {p: t for p, t in made.items() if p.startswith(("examples/", "samples/"))}
    assert example
    assert not any("test_vector" in text or "test vector" in text for text in example.values())


@pytest.mark.parametrize("layout", OTHERS)
@pytest.mark.parametrize("name", ["", "7", "no", "!?", "a" * 90, 'x"\n*/ \\b=1 $(rm) {{ y }}', "Ünï", "Arduino net"])
def test_names_cannot_break_the_metadata(layout: Layout, name: str) -> None:
    made = laid_out(layout, name=name)
    assert all(re.fullmatch(r"[A-Za-z0-9_./-]+", path) for path in made)
    if layout == "platformio":
        assert re.fullmatch("[a-z0-9-]{1,50}", json.loads(made["library.json"])["name"])
    if layout == "arduino":
        lines = made["library.properties"].splitlines()
        assert len(lines) == 10
        assert re.fullmatch("name=(?!arduino)[a-z0-9-]*[a-z][a-z0-9-]*", lines[0])
    if layout == "zephyr":
        assert re.search(r"^config MODEL_[A-Z0-9_]+\n\tbool \"[^\"\n]*\"\n", made["zephyr/Kconfig"])
        assert isinstance(yaml.safe_load(made["zephyr/module.yml"])["name"], str)


def test_refusals() -> None:
    assert [check_layout(layout) for layout in LAYOUTS] == list(LAYOUTS)
    with pytest.raises(UsageError, match="no layout 'keil'"):
        check_layout("keil")
