"""What the headline benchmark asks: data, reference, limits and seeds of each of its three parts.

Data and pre-trained weights are read from the folder that the environment variable THUMBNET_SHARED names (nothing of it
is in this repository), the solar cells from the package `elpv-dataset`.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from headline_networks import cifar_resnet, mobilenet_v1, read_npz
from PIL import Image
from safetensors.torch import load_file, save
from torch import nn

from thumbnet.data import Augmentation, Dataset, Preprocessing, dataset_from_arrays, load_data
from thumbnet.errors import DataError
from thumbnet.files import write_bytes_atomic, write_json_atomic
from thumbnet.progress import Progress
from thumbnet.training.checkpoint import Checkpoint
from thumbnet.training.distill import CrossEntropy
from thumbnet.training.loop import Images, Schedule, accuracy, draw_some, predict, train
from thumbnet.version import __version__

SHARED = "THUMBNET_SHARED"
TRAIN_SHEETS, VAL_SHEETS, TEST_SHEETS = range(20), range(20, 23), range(10)  # of 1,000 images each
BATCH, RATE = 32, 5e-4  # of the references' fine-tuning
FROZEN = 11  # layers of MobileNetV1 that keep their ImageNet weights, up to 20 × 20 × 256: most time, least change
NORM_IMAGES = 128

Reference = Callable[["Problem", Dataset, Path, int, Progress], nn.Module]


@dataclass(frozen=True, eq=False)
class Problem:
    """One part of the benchmark. `seeds` gives how many seeds a limit of flash (KB) gets, where it is not one."""

    name: str
    title: str
    load: Callable[[], Dataset]
    reference: Reference
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str
    flash_kb: tuple[int, ...]
    seeds: Mapping[int, int] = field(default_factory=dict)
    ram_kb: int = 64
    epochs: int = 8  # of the reference's fine-tuning
    target: str = "nrf52840"

    def preprocessing(self, data: Dataset) -> Preprocessing:
        return Preprocessing(size=self.size, channels=data.channels, mean=self.mean, std=self.std)


def shared(*parts: str) -> Path:
    """A path in the folder that THUMBNET_SHARED names. Raises `DataError` where that does not exist."""
    root = os.environ.get(SHARED, "")
    path = Path(root).joinpath(*parts)
    if not root or not path.exists():
        where = f"{path} does not exist" if root else f"{SHARED} is not set"
        raise DataError(
            f"The benchmark's data is not here: {where}.",
            f"Set {SHARED} to the folder that holds data/ (cifar10, elpv_split, magnetic_tile) and models/.",
        )
    return path


# --- data


def elpv() -> Dataset:
    """Solar cells, 300 × 300 grey; whole modules held out as elpv_split says."""
    try:
        from elpv_dataset.utils import load_dataset
    except ImportError as e:
        raise DataError("The package 'elpv-dataset' is not installed.", "Run: pip install 'thumbnet[demo]'.") from e
    images, probability, _ = load_dataset()
    with shared("data", "elpv_split", "labels.csv").open(newline="") as file:
        rows = {int(Path(r["original"]).stem.removeprefix("cell")) - 1: r for r in csv.DictReader(file)}
    if sorted(rows) != list(range(len(images))):
        raise DataError(f"elpv_split names {len(rows)} cells, the package holds {len(images)}.", "Use 1.0.0.post1.")
    labels = (np.asarray(probability) > 0.5).astype(np.int64)
    split = np.array([rows[k]["split_module"] for k in range(len(images))])
    parts = {name: (images[split == name][..., None], labels[split == name]) for name in ("train", "val", "test")}
    return dataset_from_arrays(parts, classes=("functional", "defective"), name="elpv-dataset")


def cifar10() -> Dataset:
    """Training on the first 20 sheets, validation on the next 3, which nothing but the public checkpoint was trained
    on; all 10,000 test images."""
    folder = shared("data", "cifar10")

    def part(split: str, sheets: range) -> tuple[np.ndarray, np.ndarray]:
        labels = np.load(folder / f"{split}_labels.npy", allow_pickle=False).astype(np.int64)
        images = np.concatenate([_sheet(folder / f"{split}_{k:02}.webp") for k in sheets])
        return images, labels[1000 * sheets.start : 1000 * sheets.stop]

    parts = {"train": part("train", TRAIN_SHEETS), "val": part("train", VAL_SHEETS), "test": part("test", TEST_SHEETS)}
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return dataset_from_arrays(parts, classes=classes, name="cifar10")


def _sheet(path: Path) -> np.ndarray:
    """1,000 RGB images of 32 × 32, row by row on a sheet of 25 × 40."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return pixels.reshape(25, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4).reshape(1000, 32, 32, 3)


def magnetic() -> Dataset:
    """Magnetic tiles, grey, ok or defect; whole tiles held out by the folders."""
    return load_data(shared("data", "magnetic_tile"))


# --- references


def fine_tuned_mobilenet(problem: Problem, data: Dataset, folder: Path, seed: int, progress: Progress) -> nn.Module:
    """MobileNetV1 1.0 fine-tuned on the training split; kept in `folder`, goes on where it was interrupted."""
    arrays = read_npz(shared("models", "mobilenet_v1_imagenet", "mobilenet_v1_1.0_224_backbone_fp32.npz"))
    training = Images.of(data.train, problem.preprocessing(data))
    torch.manual_seed(seed)  # the new last layer
    images = training.normalized(draw_some(len(training), NORM_IMAGES, seed))
    network = mobilenet_v1(arrays, len(data.classes), images, frozen=FROZEN)
    path = folder / f"{network.name}-{data.digest[:12]}-seed{seed}.safetensors"
    if path.exists():
        network.load_state_dict(load_file(path))
        return network.eval()
    validation = Images.of(data.val, problem.preprocessing(data))
    steps = problem.epochs * (len(training) // BATCH)
    checkpoint = Checkpoint(path.with_suffix(".unfinished"), key=f"{path.name}/{__version__}/{steps}")
    started, resumed = time.monotonic(), checkpoint.load() is not None
    with progress.stage("Fine-tune the reference", total=steps) as stage:
        train(
            network,
            training,
            CrossEntropy(),
            Schedule(steps, batch=BATCH, rate=RATE, warmup=0.1, average=0.98),
            augmentation=Augmentation.named(problem.augment),
            seed=seed,
            evaluate=lambda m: accuracy(predict(m, validation), validation.labels),
            on_step=stage.advance,
            checkpoint=checkpoint,
        )
    write_bytes_atomic(path, save({k: v.contiguous() for k, v in network.state_dict().items()}))
    checkpoint.path.unlink(missing_ok=True)
    seconds = None if resumed else round(time.monotonic() - started, 1)
    write_json_atomic(folder / f"reference-seed{seed}.json", {"seconds": seconds})
    return network.eval()


def public_resnet56(problem: Problem, data: Dataset, folder: Path, seed: int, progress: Progress) -> nn.Module:
    """The public checkpoint as it is. It was trained on all 50 training sheets, the validation images included."""
    return cifar_resnet(read_npz(shared("models", "cifar10_resnet", "resnet56.npz")))


_GREY = {"size": (160, 160), "mean": (128 / 255,), "std": (128 / 255,), "augment": "surface"}

PROBLEMS = {
    p.name: p
    for p in (
        Problem(
            name="elpv",
            title="MobileNetV1 1.0 on solar cells (elpv-dataset, modules held out)",
            load=elpv,
            reference=fine_tuned_mobilenet,
            flash_kb=(144, 72, 36),
            seeds={72: 3},
            **_GREY,  # type: ignore[arg-type]
        ),
        Problem(
            name="cifar10",
            title="ResNet-56 on CIFAR-10",
            load=cifar10,
            reference=public_resnet56,
            size=(32, 32),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            augment="photo",
            flash_kb=(36, 18),
            seeds={36: 3},
        ),
        Problem(
            name="magnetic",
            title="MobileNetV1 1.0 on magnetic tiles (tiles held out)",
            load=magnetic,
            reference=fine_tuned_mobilenet,
            flash_kb=(144, 72, 36),
            epochs=20,  # it is half as large
            **_GREY,  # type: ignore[arg-type]
        ),
    )
}
