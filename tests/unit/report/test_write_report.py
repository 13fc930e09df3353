"""The whole page: complete, self-contained, deterministic, and unharmed by what is missing or hostile."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from thumbnet.errors import RunError, ThumbnetError
from thumbnet.report import write_report
from thumbnet.report.report import render

VOID = {"meta", "img", "br", "hr", "link", "input"}
HEADINGS = {
    "Before and after": ("limits", "result"),
    "The search": ("trials",),
    "Why this network": ("insight",),
    "Layer by layer": ("best_layers",),
    "The arena": ("arena",),
    "Training": ("curves",),
    "What is mistaken for what": ("confusion",),
    "Noise, blur and other light": ("robustness",),
    "Test images and both answers": ("samples",),
    "The proof": ("proof",),
    "What took how long": ("story",),
    "Provenance": ("provenance",),
}


class Page(HTMLParser):
    """Checks that elements nest, and collects headings, ids of figures and every URL-like attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.urls: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "action", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def test_holds_every_section(run_dir: Path) -> None:
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    page = Page(path.read_text())
    assert page.headings == list(HEADINGS)
    assert page.tags.count("svg") == 16
    numbers = [int(n) for n in re.findall(r"Figure (\d+)\.", " ".join(page.text))]
    assert numbers == list(range(1, 17))


def test_is_one_small_file_without_requests_or_scripts(run_dir: Path) -> None:
    text = write_report(run_dir).read_text()
    page = Page(text)
    assert len(text.encode()) < 3_000_000
    assert page.urls
    assert all(u.startswith("data:image/png;base64,") for u in page.urls)
    assert "script" not in page.tags
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text


def test_same_input_same_bytes(run_dir: Path) -> None:
    first = write_report(run_dir).read_bytes()
    assert write_report(run_dir).read_bytes() == first


def test_works_from_the_result_alone(tmp_path: Path, result: dict[str, Any]) -> None:
    (tmp_path / "result.json").write_text(json.dumps(result))
    page = Page(write_report(tmp_path).read_text())
    assert page.headings == ["Before and after", "Noise, blur and other light", "The proof", "Provenance"]
    assert page.tags.count("svg") == 4


def test_works_from_an_empty_result() -> None:
    assert Page(render({}, {})).headings == []


@pytest.mark.parametrize(
    "key", [*HEADINGS, *["title", "command", "target", "limits", "classes", "data", "validation", "moves"]]
)
def test_anything_may_be_missing(key: str, result: dict[str, Any], details: dict[str, Any]) -> None:
    for gone in HEADINGS.get(key, (key,)):
        details.pop(gone, None)
        if gone == "robustness":
            del result[gone]
    if key == "The proof":
        del result["proof"]
    headings = Page(render(result, details)).headings
    kept = [h for h in HEADINGS if h != key or h in ("Before and after", "Provenance")]
    assert headings == kept


@pytest.mark.parametrize("key", ["reference_costs", "best_costs", "reference_layers"])
def test_costs_may_be_null(key: str, result: dict[str, Any], details: dict[str, Any]) -> None:
    details[key] = [] if key == "reference_layers" else None
    assert len(Page(render(result, details)).headings) == len(HEADINGS)


def test_markup_in_the_data_stays_text(result: dict[str, Any], details: dict[str, Any]) -> None:
    hostile = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    details["title"] = details["command"] = hostile
    details["classes"] = [hostile, "ok"]
    details["moves"] = [hostile]
    details["arena"]["steps"][0] = details["arena"]["buffers"][0]["name"] = hostile
    details["best_layers"][0]["name"] = details["reference_layers"][0]["name"] = hostile
    details["curves"][0]["name"] = details["trials"][0]["reason"] = hostile
    details["proof"][hostile] = hostile
    details["provenance"]["machine"] = details["data"]["licence"] = hostile
    details["story"][0]["note"] = hostile
    page = Page(render(result, details))
    assert "script" not in page.tags
    assert page.tags.count("img") == len(details["samples"])
    assert all(u.startswith("data:image/png;base64,") for u in page.urls)


def test_images_that_are_no_png_or_too_many_are_left_out(result: dict[str, Any], details: dict[str, Any]) -> None:
    good = details["samples"][0]
    details["samples"] = [{**good, "png": "not base64!"}, {**good, "png": "PHN2Zz4="}, *[good] * 4000]
    text = render(result, details)
    assert 0 < Page(text).tags.count("img") < 4000
    assert len(text.encode()) < 3_000_000


def test_many_classes_and_many_trials_stay_small(result: dict[str, Any], details: dict[str, Any]) -> None:
    n = 100
    details["classes"] = [f"class {i}" for i in range(n)]
    details["confusion"] = {"best": [[int(i == j) * 9 + (i + j) % 3 for j in range(n)] for i in range(n)]}
    details["trials"] = details["trials"] * 20
    assert len(render(result, details).encode()) < 3_000_000


def test_a_run_without_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"result\.json"):
        write_report(tmp_path)


@pytest.mark.parametrize("content", ["[]", "null", '"text"'])
def test_files_that_hold_no_object_are_refused(run_dir: Path, content: str) -> None:
    (run_dir / "details.json").write_text(content)
    with pytest.raises(RunError, match="damaged"):
        write_report(run_dir)


def test_a_truncated_file_is_refused(run_dir: Path) -> None:
    (run_dir / "result.json").write_text('{"reference": {')
    with pytest.raises(ThumbnetError, match="not valid JSON"):
        write_report(run_dir)
    assert not (run_dir / "report.html").exists()
