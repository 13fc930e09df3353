"""SavedModels: made by Keras and TensorFlow in a process of their own, compared with TensorFlow."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra 'onnx'")

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.importers import saved_model
from thumbnet.importers.saved_model import TensorFlowRunner, import_saved_model

HAS_TENSORFLOW = all(importlib.util.find_spec(name) for name in ("tensorflow", "tf2onnx"))
needs_tensorflow = pytest.mark.skipif(not HAS_TENSORFLOW, reason="needs the extra 'tensorflow'")

MAKE = """
import sys
import numpy as np
import tensorflow as tf
from tensorflow import keras
from pathlib import Path
L, A, folder = keras.layers, keras.applications, Path(sys.argv[1])
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)

def unet():
    i = keras.Input((32, 32, 3))
    a = L.Conv2D(8, 3, padding="same", activation="relu")(i)
    b = L.Conv2D(16, 3, 2, padding="same", activation="relu")(a)
    up = [L.Conv2DTranspose(8, 3, 2, padding="same")(b), L.UpSampling2D(interpolation="bilinear")(b)]
    return keras.Model(i, L.Conv2D(2, 1, activation="softmax")(L.Concatenate()([a, *up])))

def lstm():
    i = keras.Input((16, 8))
    return keras.Model(i, L.Dense(3)(L.LSTM(8)(i)))

def signals():
    i = keras.Input((64, 6))
    x = L.MaxPool1D()(L.BatchNormalization()(L.Conv1D(8, 5, 2, padding="same", activation="relu")(i)))
    return keras.Model(i, L.Dense(3)(L.GlobalAveragePooling1D()(L.Dense(5, activation="relu")(x))))

def two():
    i, j = keras.Input((16, 16, 3), name="image"), keras.Input((4,), name="extra")
    x = L.Concatenate()([L.Flatten()(L.Conv2D(4, 3, 2, padding="same")(i)), j])
    return keras.Model([i, j], [L.Dense(3, activation="softmax")(x), L.Dense(1)(x)])

def lively(model):
    '''Weights and statistics with which outputs differ from input to input.'''
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            w = layer.get_weights()
            fan_in = np.prod(w[0].shape[:2] if isinstance(layer, L.DepthwiseConv2D) else w[0].shape[:-1])
            layer.set_weights([rng.normal(0, (2 / fan_in) ** 0.5, w[0].shape), *w[1:]])
        if isinstance(layer, L.BatchNormalization):
            n = layer.moving_mean.shape[0]
            layer.set_weights([rng.uniform(0.8, 1.6, n), *rng.normal(0, 0.3, (2, n)), rng.uniform(0.5, 1.5, n)])
    return model

small = dict(input_shape=(32, 32, 3), weights=None, classes=4, classifier_activation=None)
networks = {
    "unet": unet, "lstm": lstm, "signals": signals, "two": two,
    "mobilenet": lambda: A.MobileNet(alpha=0.25, dropout=0, **small),
    "mobilenet_v2": lambda: A.MobileNetV2(alpha=0.35, **small),
    "mobilenet_v3": lambda: A.MobileNetV3Small(**small),
    "efficientnet": lambda: A.EfficientNetB0(**small),
}
for name, make in networks.items():
    lively(make()).export(folder / name, verbose=False)

class Module(tf.Module):
    def __init__(self, f, dtype, shape=(None, 4)):
        self.f = tf.function(f, input_signature=[tf.TensorSpec(shape, dtype)])

def save(name, module):
    tf.saved_model.save(module, str(folder / name), signatures=module.f)

save("integers", Module(lambda x: {"y": x + 1}, tf.int32))

def reads(x):
    return {"y": x * tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)}

save("reads", Module(reads, tf.float32))
save("symbolic", Module(lambda x: {"y": tf.nn.relu(x)}, tf.float32, (None, None)))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved_models")
    script = folder / "make.py"
    script.write_text(MAKE)
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
    }
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("unet", [(32, 32, 3)]),
        ("signals", [(64, 6)]),
        ("two", [(4,), (16, 16, 3)]),  # by their names: extra, image
        ("mobilenet", [(32, 32, 3)]),
        ("mobilenet_v2", [(32, 32, 3)]),
        ("mobilenet_v3", [(32, 32, 3)]),
        ("efficientnet", [(32, 32, 3)]),
    ],
)
def test_networks(models: Path, name: str, shapes: list[tuple[int, ...]]) -> None:
    made = import_saved_model(models / name)
    assert made.check is not None
    assert made.check.runtime.startswith("TensorFlow 2")
    assert [p.shape for p in made.inputs] == shapes
    assert not any(":" in i.name for i in made.graph.inputs)
    rng = np.random.default_rng(1)
    outputs = made.run([rng.normal(0, 1, (4, *s)).astype(np.float32) for s in shapes])
    spread = max(float(np.ptp(y, axis=0).max()) for y in outputs)
    assert made.max_difference < 1e-3 * spread  # of what inputs change, not of a constant


@needs_tensorflow
@pytest.mark.slow
def test_what_is_refused(models: Path) -> None:
    with pytest.raises(UnsupportedOpError, match="loops are not supported"):
        import_saved_model(models / "lstm")
    with pytest.raises(ModelError, match="int32, not float32"):
        import_saved_model(models / "integers")
    with pytest.raises(ModelError, match="'ReadFile' does more than compute"):
        import_saved_model(models / "reads")
    with pytest.raises(ModelError, match="has the shape"):
        import_saved_model(models / "symbolic")


@needs_tensorflow
@pytest.mark.slow
def test_damaged_ones(models: Path, tmp_path: Path) -> None:
    data = (models / "signals" / "saved_model.pb").read_bytes()
    for size in (0, 100, len(data) // 2):
        (tmp_path / "saved_model.pb").write_bytes(data[:size])
        with pytest.raises(ModelError, match="TensorFlow"):
            import_saved_model(tmp_path)


# --- without TensorFlow


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no saved_model\.pb"):
        import_saved_model(tmp_path)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"thumbnet\[tensorflow\]"):
        import_saved_model(tmp_path)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise SystemExit(3)", "ended without an answer"),
        ("print('hello')", "ended without an answer"),
        ("print('7')", "ended without an answer"),
        ("print('{}')", "an answer that is none"),
        ("""print('{"error": "no signature"}')""", "refuses it: no signature"),
        ("import time; time.sleep(60)", "took longer than"),
    ],
)
def test_a_process_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    stand_in(tmp_path, monkeypatch, script)
    monkeypatch.setattr(saved_model, "_LOAD_SECONDS", 1.0)
    with pytest.raises(ModelError, match=said):
        TensorFlowRunner(tmp_path)


def test_a_process_that_ends_between_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        tmp_path,
        monkeypatch,
        "import sys, pathlib\n"
        "(pathlib.Path(sys.argv[2]) / 'model.onnx').write_bytes(b'x')\n"
        """print('{"runtime": "T", "outputs": 1}', flush=True)\n"""
        "sys.stdin.readline()",
    )
    run = TensorFlowRunner(tmp_path)
    with pytest.raises(ModelError, match=r"TensorFlow (has ended|ended without an answer)"):
        run([np.zeros((1, 4), np.float32)])


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Another script in place of the one that runs TensorFlow."""
    path: Any = tmp_path / "script.py"
    path.write_text(script)
    monkeypatch.setattr(saved_model, "_SCRIPT", path)
