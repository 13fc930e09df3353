"""What the report reads: `result.json` and `details.json` of a run directory.

Every key may be missing; the report then leaves out what it would have fed. Accuracies and confidences are
percentages, sizes bytes, times seconds unless the name says otherwise. Tasks other than classification have their own
metric under its own key (`metric.key` of `result.json`) wherever `accuracy` stands here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict, cast

from thumbnet.errors import RunError
from thumbnet.files import read_json


class FigureJson(TypedDict):
    """`thumbnet.data.task.Figure`."""

    name: str
    value: float
    unit: str


class ReferenceResult(TypedDict, total=False):
    accuracy: float
    accuracy_interval: list[float]  # low, high
    also: list[FigureJson]  # further figures of quality
    size_bytes: int
    parameters: int
    macs: int


class BestResult(TypedDict, total=False):
    accuracy: float
    accuracy_interval: list[float]
    also: list[FigureJson]
    size_bytes: int  # of the TFLite file
    flash_bytes: int
    code_bytes: int
    ram_bytes: int
    parameters: int
    macs: int
    instructions: int
    cycles: int
    latency_ms: float
    energy_mj: float | None  # estimated; None where the board has no figure


class CorruptedJson(TypedDict):
    """Both networks on test samples damaged in one way; the first has the corruption "none"."""

    corruption: str
    severity: float
    unit: str
    reference: float
    reference_interval: list[float | None]
    result: float
    result_interval: list[float | None]
    drop: float
    drop_interval: list[float | None]


class RobustnessJson(TypedDict):
    """`thumbnet.robustness.robustness`."""

    samples: int
    of: int
    seed: int
    kind: str
    points: list[CorruptedJson]
    mean: dict[str, Any]


class ResultJson(TypedDict, total=False):
    task: str
    metric: dict[str, Any]  # key, name, unit, higher_is_better, digits; accuracy where it is missing
    reference: ReferenceResult
    best: BestResult
    drop_points: float  # for metrics in percent
    drop: float  # for others, in the metric's unit
    drop_interval: list[float]  # low, high; 95 %
    test_images: int
    robustness: RobustnessJson
    front: list[dict[str, Any]]  # networks of several sizes (`thumbnet.front.front_figures`)
    proof: dict[str, Any]
    agreement: dict[str, Any] | None  # of the import: runtime, difference, tolerance, random, real (inputs compared)
    seed: int
    wall_seconds: float
    versions: dict[str, str]


class TargetJson(TypedDict, total=False):
    name: str
    title: str
    core: str
    flash_bytes: int
    ram_bytes: int
    clock_hz: int


class LimitsJson(TypedDict, total=False):
    flash_bytes: int | None
    ram_bytes: int | None
    latency_ms: float | None
    cycles: int | None
    macs: int | None
    energy_mj: float | None
    max_drop: float | None
    metric_limit: float | None  # the worst value of the metric itself


class DataJson(TypedDict, total=False):
    name: str
    licence: str
    digest: str
    train: int  # images
    val: int
    test: int


class LayerCostJson(TypedDict, total=False):
    """`thumbnet.results.LayerCost`."""

    name: str
    op: str
    output_shape: list[int]
    macs: int
    weight_bytes: int
    parameter_bytes: int
    instructions: int
    cycles: int
    weight_bits: int


class CostsJson(TypedDict, total=False):
    """`thumbnet.results.Costs`."""

    kind: str
    flash_bytes: int
    code_bytes: int
    weight_bytes: int
    ram_bytes: int
    arena_bytes: int
    static_bytes: int
    stack_bytes: int
    macs: int
    instructions: int
    cycles: int
    latency_ms: float
    energy_mj: float | None
    layers: list[LayerCostJson]


class ReferenceLayerJson(TypedDict, total=False):
    name: str  # the same as in the result where a layer survived
    op: str
    output_shape: list[int]  # channels, height, width
    macs: int
    parameters: int


class BufferJson(TypedDict):
    """`thumbnet.cost.plan.Buffer`."""

    name: str
    kind: str
    offset: int
    bytes: int
    first: int
    last: int


class ArenaJson(TypedDict, total=False):
    arena_bytes: int
    lower_bound_bytes: int
    buffers: list[BufferJson]
    steps: list[str]  # node names in execution order


class TrialJson(TypedDict, total=False):
    """`thumbnet.results.Trial`."""

    id: str
    recipe: dict[str, Any]
    state: str
    reason: str
    costs: CostsJson | None
    accuracy: float | None
    rung: int
    curve: list[dict[str, float]]


class ValidationJson(TypedDict, total=False):
    """On the split that the trials were judged on, so that they can be drawn into one figure with them."""

    reference: float
    best: float
    best_trial: str  # id of the trial that became the result
    reference_interval: list[float | None] | None  # 95 %
    best_interval: list[float | None] | None


class CurveJson(TypedDict):
    name: str
    points: list[dict[str, float]]  # step, loss, accuracy


class ConfusionJson(TypedDict, total=False):
    reference: list[list[int]]  # rows: true class, columns: answer
    best: list[list[int]]


class AnswerJson(TypedDict, total=False):
    label: int
    confidence: float  # percent


class SampleJson(TypedDict, total=False):
    png: str  # base64
    label: int
    reference: AnswerJson
    best: AnswerJson


class StageJson(TypedDict, total=False):
    stage: str
    seconds: float
    note: str


class FinalistJson(TypedDict):
    """A network trained to the end; its integer form on validation."""

    id: str
    score: float
    interval: list[float | None] | None  # 95 %
    flash_bytes: int
    ram_bytes: int


class GroupJson(TypedDict):
    """A channel group; percentages of importance (see `thumbnet.search.insight.sensitivity`)."""

    group: str
    share: float
    per_channel: float
    before: int
    after: int
    kept: float


class InsightJson(TypedDict, total=False):
    """`thumbnet.search.insight.explain`."""

    groups: list[GroupJson]
    blocks: list[dict[str, Any]]
    samples: int  # of validation, behind the scores of `reference` and `moves`
    reference: dict[str, Any]
    result: dict[str, Any]
    moves: list[dict[str, Any]]
    kinds: list[dict[str, Any]]


class DetailsJson(TypedDict, total=False):
    title: str
    command: str
    target: TargetJson
    limits: LimitsJson
    classes: list[str]
    data: DataJson
    reference_costs: CostsJson | None
    best_costs: CostsJson | None
    reference_layers: list[ReferenceLayerJson]
    best_layers: list[LayerCostJson]
    arena: ArenaJson
    trials: list[TrialJson]
    validation: ValidationJson
    curves: list[CurveJson]
    confusion: ConfusionJson
    samples: list[SampleJson]
    proof: dict[str, Any]
    provenance: dict[str, Any]
    story: list[StageJson]
    moves: list[str]
    finalists: list[FinalistJson]
    insight: InsightJson


def read_run(run_dir: Path) -> tuple[ResultJson, DetailsJson]:
    """Both files of a run; `details.json` may be missing.

    Raises `RunError` where there is no `result.json`, or a file holds something other than an object.
    """
    result_path, details_path = run_dir / "result.json", run_dir / "details.json"
    if not result_path.is_file():
        raise RunError(f"{run_dir} holds no result.json.", "Name the directory of a run that has finished.")
    result = read_json(result_path)
    details = read_json(details_path) if details_path.is_file() else {}
    for path, value in ((result_path, result), (details_path, details)):
        if not isinstance(value, dict):
            raise RunError(f"{path} is damaged: it holds no JSON object.", "Delete it and run the same command again.")
    return cast(ResultJson, result), cast(DetailsJson, details)
