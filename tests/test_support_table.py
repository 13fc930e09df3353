"""The page of supported operations says what importers and exits do."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import pytest

from thumbnet.graph.graph import Graph
from thumbnet.graph.ops import OPS
from thumbnet.importers.keras_classes import REFUSED
from thumbnet.importers.nearest import NEAREST
from thumbnet.importers.tflite_float import OPERATORS as TFLITE_HANDLERS
from thumbnet.importers.torch import HANDLERS as TORCH_HANDLERS
from thumbnet.support_table.names import SOURCES, names_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "support.md"


def handled(source: str) -> Set[str]:
    """The names that an importer has a handler for."""
    if source == "ONNX":
        pytest.importorskip("onnx", reason="ONNX is optional")
        from thumbnet.importers.onnx import HANDLERS

        return set(HANDLERS)
    if source == "Keras":
        from thumbnet.importers.keras import LAYER_HANDLERS, OPERATION_HANDLERS

        return {*LAYER_HANDLERS, *OPERATION_HANDLERS}
    return set({"PyTorch": TORCH_HANDLERS, "TFLite": TFLITE_HANDLERS}[source])


@pytest.mark.parametrize("source", SOURCES)
def test_every_handler_has_a_name_in_the_table_and_every_name_a_handler(source: str) -> None:
    assert set(SOURCES[source]) == handled(source)


@pytest.mark.parametrize("source", SOURCES)
def test_names_become_operations_of_the_graph(source: str) -> None:
    assert {op for made in SOURCES[source].values() for op in made.split()} <= set(OPS)


def test_every_operation_comes_from_somewhere() -> None:
    assert all(any(names_of(source, op) for source in SOURCES) for op in OPS)


def test_what_is_refused_has_no_handler() -> None:
    assert not set(NEAREST) & set(TORCH_HANDLERS)
    assert not set(REFUSED) & handled("Keras")


def test_every_operation_has_a_case_that_holds_it() -> None:
    pytest.importorskip("onnx", reason="ONNX is optional")
    from thumbnet.support_table.cases import CASES

    assert {case.op for case in CASES} == set(OPS)
    for case in CASES:
        graph = case.graph()
        assert isinstance(graph, Graph)
        assert [n.op for n in graph.nodes] == [case.op]
    for op in OPS:
        told = [case.what for case in CASES if case.op == op]
        assert len(set(told)) == len(told), op


def test_the_page_is_that_of_the_importers_and_exits() -> None:
    pytest.importorskip("onnx", reason="ONNX is optional")
    from thumbnet.support_table import support_page

    page = support_page()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [*OPS, *OPS]
    assert page == PAGE.read_text(), "run `python -m thumbnet.support_table > docs/support.md`"


def test_an_exit_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="ONNX is optional")
    from thumbnet.errors import UnsupportedOpError
    from thumbnet.support_table import columns

    def fails(_: object) -> bytes:
        raise UnsupportedOpError("pad", "y")

    monkeypatch.setattr(columns, "to_tflite", fails)
    assert columns.cell(columns.columns()["TFLite"], "pad") == columns.NO
