"""The page about the latency model: `python -m thumbnet.cost.latency_table > docs/latency.md`."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from thumbnet.cost.latency import WAIT_STATE_SHARE
from thumbnet.cost.measured import measured

_HEAD = """\
# How long a layer takes

This page is written by `python -m thumbnet.cost.latency_table` from the cores' descriptions and the measured kernels.

**Instructions.** Every kernel has a formula that is linear in its loop counts (`cost/features.py`). Its coefficients
are fitted, never below zero, to counts on an emulated core over probes of many shapes, by `benchmarks/fit_latency.py`
and, for Helium, `benchmarks/fit_latency_mve.py`. The first table gives the largest error of a formula over its probes:
of convolutions and dense layers, where a network spends its time, and of all other operations. Whole networks are
estimated within 5 %, which `tests/emulation/test_costs.py` holds; `compile`, `verify` and the report of a run count
instead of estimating.

**Cycles.** Each instruction costs what its class does on the core (second table, zero wait states); a load behind
another one may be pipelined, and `scale` stands for what the classes do not show, such as two instructions at a time.
No board was measured by us. The error is our judgement from the sources named; where it says –, do not trust cycles.

**Milliseconds.** Cycles by the clock, plus {share:.0%} of a stall per instruction for each wait state of the flash.

| core | products | others | cycles | source of the cycle model |
| --- | ---: | ---: | ---: | --- |
"""


def latency_page() -> str:
    """docs/latency.md, whole."""
    cores = [tomllib.loads(f.read_text(encoding="utf-8")) for f in sorted(_folder().iterdir(), key=lambda f: f.name)]
    rows = [
        f"| {c['name']} | {_worst(c['name'], True):.1%} | {_worst(c['name'], False):.1%} | "
        f"{'± {:.0%}'.format(c['cycle_error']) if 'cycle_error' in c else '–'} | {c['source']} |\n"
        for c in cores
    ]
    classes = list(dict.fromkeys(name for c in cores for name in c["cycles"]))
    head = "\n| cycles of | " + " | ".join(c["name"] for c in cores) + " |\n| --- |" + " ---: |" * len(cores) + "\n"
    body = [f"| {name.replace('_', ' ')} | " + " | ".join(_number(c, name) for c in cores) + " |\n" for name in classes]
    return _HEAD.format(share=WAIT_STATE_SHARE) + "".join(rows) + head + "".join(body)


def _folder() -> Any:
    return files("thumbnet.targets") / "cores"


def _number(core: dict[str, Any], name: str) -> str:
    if name in core["cycles"]:
        return f"{core['cycles'][name]:g}"
    return "1" if name == "scale" else "–"  # the core has no such instructions


def _worst(core: str, products: bool) -> float:
    """Largest error of a formula among kernels with weights, or among the others."""
    kernels = measured(core).kernels
    return max(k.error for name, k in kernels.items() if any(p in name for p in ("conv", "dense")) == products)


if __name__ == "__main__":
    print(latency_page(), end="")
