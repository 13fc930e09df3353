"""Hyper-parameter tuning: width and resolution chosen by Optuna from short trainings.

A trial is a network of uniform width at one resolution, within the limits, trained for a moment; Optuna's TPE proposes
and its median rule prunes. The best one goes on learning with the steps that are left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headline_setting import Setting
from torch import nn

from thumbnet.errors import UsageError
from thumbnet.files import read_json, write_json_atomic
from thumbnet.graph.graph import Graph
from thumbnet.runs import RunDirectory
from thumbnet.search.lesson import Lesson
from thumbnet.training.loop import Schedule, assess, train
from thumbnet.training.module import GraphModule

TRIALS = 8
SHARE = 0.3  # of all steps go to trials, at most
SHARES = (1.0, 0.85, 0.7, 0.55)  # of the widest that fits at a resolution
EVALUATIONS = 3  # of a trial, at which it may be pruned
RATE, FINAL_RATE = 2e-3, 0.3  # as the search's own short trainings


@dataclass(frozen=True, eq=False)
class Tuned:
    graph: Graph
    spent: int  # steps of all trials
    note: str


def tuned(setting: Setting, steps: int, run: RunDirectory) -> Tuned:
    """The best trial's network, kept in the run directory."""
    return run.stage("tune", f"{setting.job.key}/{steps}", lambda: _tune(setting, steps), _save, _load)


def _save(folder: Path, found: Tuned) -> None:
    found.graph.save(folder / "graph.json")
    write_json_atomic(folder / "tuned.json", {"spent": found.spent, "note": found.note})


def _load(folder: Path) -> Tuned:
    told = read_json(folder / "tuned.json")
    return Tuned(Graph.load(folder / "graph.json"), told["spent"], told["note"])


def _tune(setting: Setting, steps: int) -> Tuned:
    """Raises `NothingFitsError` where there is none at any resolution."""
    optuna = _optuna()
    fitting = {size: setting.widest(size) for size in setting.resolutions()}
    widest = {f"{s[0]}x{s[1]}": (s, w) for s, w in fitting.items() if w is not None}
    if not widest:
        raise setting.too_large()
    lesson, per_trial = setting.lesson, max(EVALUATIONS, int(steps * SHARE) // TRIALS)
    known: dict[tuple[str, float], float | None] = {}  # None: pruned
    best: list[tuple[float, GraphModule, str]] = []
    spent = 0

    def objective(trial: Any) -> float:
        nonlocal spent
        name, share = trial.suggest_categorical("resolution", list(widest)), trial.suggest_categorical("width", SHARES)
        if (name, share) in known:  # nothing is trained twice
            if (loss := known[name, share]) is None:
                raise optuna.TrialPruned
            return loss
        size, width = widest[name][0], replace(widest[name][1], fraction=widest[name][1].fraction * share)
        module = setting.inherited(setting.narrowed(width, size), lesson)

        def count(step: int) -> None:
            nonlocal spent
            spent += 1

        known[name, share] = None
        loss = known[name, share] = _short_training(module, lesson, setting, per_trial, trial, count)
        best.append((loss, module, f"{width} at {size[0]} × {size[1]}"))
        return loss

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=setting.seed, n_startup_trials=TRIALS // 2)
    study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.MedianPruner(n_startup_trials=2))
    study.optimize(objective, n_trials=TRIALS)
    loss, module, chosen = min(best, key=lambda b: b[0])
    return Tuned(
        module.to_graph(),
        spent,
        f"{chosen}, best of {len(known)} by validation loss {loss:.3f}, {spent} steps of trials",
    )


def _short_training(
    module: GraphModule,
    lesson: Lesson,
    setting: Setting,
    steps: int,
    trial: Any,
    count: Callable[[int], None],
) -> float:
    """Validation loss after `steps` steps, of each of which `count` hears.

    Raises `optuna.TrialPruned` where the study gives the trial up.
    """
    training, validation = lesson.images(module.graph.inputs[0].shape)
    losses: list[float] = []

    def evaluate(network: nn.Module) -> float:
        found = assess(network, validation, lesson.task)
        losses.append(found.loss)
        trial.report(found.loss, len(losses))
        if len(losses) < EVALUATIONS and trial.should_prune():
            raise _optuna().TrialPruned
        return found.score

    with setting.progress.stage(f"Trial {trial.number + 1}", total=steps) as stage:
        train(
            module,
            training,
            lesson.objective,
            Schedule(steps, batch=lesson.batch, rate=RATE, final_rate=FINAL_RATE, warmup=0.2),
            augmentation=lesson.augmentation,
            seed=lesson.seed,
            evaluate=evaluate,
            evaluations=EVALUATIONS,
            before_step=count,
            on_step=stage.advance,
        )
    return losses[-1]


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as e:
        raise UsageError("The package 'optuna' is not installed.", "Run: pip install 'thumbnet[bench]'.") from e
    return optuna
