"""A network that every kind of move has changed, through training, lowering and export to firmware that is proved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zoo_optimize
from zoo import network

import thumbnet
from thumbnet import stages
from thumbnet.exits import export
from thumbnet.kept import Finalist
from thumbnet.search.efforts import Effort
from thumbnet.search.moves import MOVES
from thumbnet.search.recipe import Context, Move, Recipe
from thumbnet.search.space import Space

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def one_of_each(space: Space) -> Recipe:
    """The first option of each kind, each in the network that those before have left; depth first."""
    graph, moves = space.graph, list[Move]()
    kinds = ("skip", "grey", "kernel", "activation", "low_rank", "separate", "bits", "widths", "resolution")
    for kind in kinds:
        found = MOVES[kind].options(graph)
        if found:
            moves.append(found[-1])
            graph = found[-1].apply(graph, Context({}))
    return Recipe(tuple(moves))


@pytest.mark.emulation
@pytest.mark.parametrize("name", ["mobilenet_v3", "resnet8"])
def test_what_the_moves_make_is_trained_and_proved_on_the_core(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    data = {}
    for split, count in (("train", 64), ("val", 20), ("test", 20)):
        labels = np.arange(count) % 5
        pixels = rng.integers(0, 120, (count, 48, 48, 3)) + 30 * labels[:, None, None, None]
        data |= {f"x_{split}": pixels.astype(np.uint8), f"y_{split}": labels}
    made: list[Recipe] = []

    def search(
        job: object, run: object, space: Space, context: Context, *rest: object
    ) -> tuple[list[Finalist], list[object]]:
        recipe = one_of_each(space)
        made.append(recipe)
        return [Finalist(recipe.id, recipe.apply(space.graph, context), ())], []

    monkeypatch.setattr(stages, "search", search)
    with zoo_optimize.small_effort(Effort(2, ((1, 0.5),), 1, 1, 8, 1, 32, 0)):
        result = thumbnet.optimize(
            network(name), data, "nrf52840", effort="quick", run_dir=tmp_path / "run",
            input_size=(48, 48), mean=MEAN, std=STD, augment="light",
        )  # fmt: skip
    kinds = {m.kind for m in made[0].moves}
    assert {"grey", "low_rank", "bits", "widths"} <= kinds
    assert ("kernel" in kinds) == (name == "resnet8")  # the other has depthwise 3×3 and a stem with a stride
    assert ("activation" in kinds) == (name == "mobilenet_v3")
    assert ("separate" in kinds) == (name == "resnet8")
    assert result.proof["bit_exact"] is True
    assert result.proof["tflm_equal"] is not False
    header = (tmp_path / "run/firmware/model.h").read_text()
    assert "19595 R + 38470 G + 7471 B" in header
    integer = json.loads((tmp_path / "run/integer.json").read_text())
    assert sum(n["attrs"].get("weight_bits") == 4 for n in integer["nodes"]) == 1
    for form in ("onnx-float", "torch"):
        (note,) = (n for n in export(tmp_path / "run", form).notes if "takes" in n)
        assert "the luma" in note
