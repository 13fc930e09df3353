"""The demo's main job: fine-tune a reference, then hand it to `optimize`."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save

from thumbnet.data import Augmentation, Dataset, Preprocessing
from thumbnet.demo.efficientnet_lite import MEAN, STD, EfficientNetLite0, pretrained
from thumbnet.demo.solar_cells import LICENCE, load_solar_cells
from thumbnet.files import write_bytes_atomic
from thumbnet.progress import Progress
from thumbnet.result import Result
from thumbnet.story import optimize
from thumbnet.training.allocator import keep_freed_memory
from thumbnet.training.checkpoint import Checkpoint
from thumbnet.training.distill import CrossEntropy
from thumbnet.training.loop import Images, Schedule, accuracy, predict, train
from thumbnet.version import __version__

SIZE = (128, 128)
FROZEN = 5  # leading blocks that keep their ImageNet weights: they cost most time and change least
EPOCHS = 4
BATCH = 32
AUGMENT = "surface"


def run_demo(
    run_dir: str | Path = "runs/demo",
    seed: int = 0,
    progress: Progress | None = None,
    effort: str = "quick",
    time_limit: str | float | None = None,
) -> Result:
    """EfficientNet-Lite0 on elpv-dataset, for an nRF52840: 256 KB flash, 96 KB RAM, at most 2 points lost."""
    progress = progress or Progress.quiet()
    keep_freed_memory()
    torch.set_num_threads(max(1, min(2, torch.get_num_threads())))  # the same bytes whatever the machine's core count
    progress.note(f"Data: {LICENCE}")
    data = load_solar_cells()
    reference = fine_tuned_reference(Path(run_dir), data, seed, progress)
    return optimize(
        reference,
        data,
        target="nrf52840",
        flash="256KB",
        ram="96KB",
        max_drop=2.0,
        effort=effort,
        time_limit=time_limit,
        seed=seed,
        run_dir=run_dir,
        input_size=SIZE,
        mean=(MEAN,),
        std=(STD,),
        augment=AUGMENT,
        progress=progress,
    )


def fine_tuned_reference(run_dir: Path, data: Dataset, seed: int, progress: Progress) -> EfficientNetLite0:
    """ImageNet weights fine-tuned on the training split.

    Kept in the run directory, so that it happens once; goes on where it was interrupted.
    """
    torch.manual_seed(seed)  # the new last layer
    network = pretrained(classes=len(data.classes), channels=1, frozen=FROZEN)
    path = run_dir / f"reference-{data.digest[:12]}-seed{seed}.safetensors"
    if path.exists():
        progress.note(f"Reference: fine-tuned before, taken from {path}.")
        network.load_state_dict(load_file(path))
        return network.eval()
    preprocessing = Preprocessing(size=SIZE, channels=1, mean=(MEAN,), std=(STD,))
    training = Images.of(data.train, preprocessing)
    validation = Images.of(data.val, preprocessing)
    steps = EPOCHS * (len(training) // BATCH)
    checkpoint = Checkpoint(path.with_suffix(".unfinished"), key=f"{path.name}/{__version__}")
    with progress.stage("Fine-tune the reference", total=steps) as stage:
        train(
            network,
            training,
            CrossEntropy(),
            Schedule(steps, batch=BATCH, rate=5e-4, warmup=0.1, average=0.98),
            augmentation=Augmentation.named(AUGMENT),
            seed=seed,
            evaluate=lambda m: accuracy(predict(m, validation), validation.labels),
            evaluations=2,
            on_step=stage.advance,
            checkpoint=checkpoint,
        )
    write_bytes_atomic(path, save({k: v.contiguous() for k, v in network.state_dict().items()}))
    checkpoint.path.unlink(missing_ok=True)
    return network.eval()
