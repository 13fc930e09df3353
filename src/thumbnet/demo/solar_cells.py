"""The demo's data: elpv-dataset, 2,624 electroluminescence images of solar cells, whole modules held out.

Cells of one module were photographed together and share exposure, wafer type and often the fault's cause, so a random
split would leak. The package does not name the modules, but its files follow them: the wafer type changes only at
module borders, and the lengths of the runs of one type are those of whole modules of about 60 (in two cases 72 or 48)
cells. Here each run is cut into modules of near-equal length; a border may thus be off by a few cells inside the two
longest runs. Modules are then dealt to the splits in the order of their share of defects, each wafer type apart, so
that splits resemble one another in both. The two modules of 72 and 48 cells are of kinds of their own: they go to the
training split, since as a validation or test module they would say how strange that one kind looks, and little else.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
import numpy.typing as npt

from thumbnet.data import Dataset, dataset_from_arrays
from thumbnet.errors import DataError

LICENCE = "elpv-dataset images: CC BY-NC-SA 4.0 (non-commercial); Deitsch et al., Buerhop-Lutz et al."
CLASSES = ("functional", "defective")
CELLS_PER_MODULE = 60
USUAL_CELLS = range(55, 66)
DEAL = (0, 2, 0, 1, 0)  # splits of five modules in a row: 0 = train, 1 = validation, 2 = test


def load_solar_cells() -> Dataset:
    """Grey images 300 × 300; "defective" where the experts' defect probability is above one half.

    Raises `DataError` where the package `elpv-dataset` is missing.
    """
    try:
        from elpv_dataset.utils import load_dataset
    except ImportError as e:
        raise DataError("The package 'elpv-dataset' is not installed.", "Run: pip install 'thumbnet[demo]'.") from e
    images, probability, wafer = load_dataset()
    labels = (np.asarray(probability) > 0.5).astype(np.int64)
    split = module_split(wafer, labels)
    parts = {
        name: (images[split == k][..., None], labels[split == k]) for k, name in enumerate(("train", "val", "test"))
    }
    return dataset_from_arrays(parts, classes=CLASSES, licence=LICENCE, name="elpv-dataset")


def modules(wafer: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """Module number of each cell, from the runs of one wafer type in file order."""
    numbers: list[int] = []
    count = 0
    for _, run in groupby(wafer):
        length = len(list(run))
        pieces = max(1, round(length / CELLS_PER_MODULE))
        sizes = [length // pieces + (k < length % pieces) for k in range(pieces)]
        for size in sizes:
            numbers += [count] * size
            count += 1
    return np.array(numbers)


def module_split(wafer: npt.NDArray[np.str_], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0 = train, 1 = validation, 2 = test, for each cell; whole modules, wafer types and defect rates alike."""
    number = modules(wafer)
    split = np.zeros(len(wafer), dtype=np.int64)
    for kind in sorted(set(wafer.tolist())):
        usual = {m for m in number[wafer == kind].tolist() if (number == m).sum() in USUAL_CELLS}
        own = sorted(usual, key=lambda m: (float(labels[number == m].mean()), m))
        for position, module in enumerate(own):
            split[number == module] = DEAL[position % len(DEAL)]
    return split
