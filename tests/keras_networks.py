"""Networks of Keras, with weights that are not zero anywhere."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thumbnet.importers.keras_backend import keras_module

for package in ("keras", "h5py"):  # not imported here: Keras would look for TensorFlow
    if importlib.util.find_spec(package) is None:
        pytest.skip("needs thumbnet[keras]", allow_module_level=True)

keras = keras_module()
logging.getLogger("absl").setLevel(logging.ERROR)  # Keras warns that .h5 is old


def saved(model: Any, path: Path) -> Path:
    model.save(path)
    return path


def randomized(model: Any, seed: int = 0) -> Any:
    """The same model with weights around what they were, variances positive."""
    rng = np.random.default_rng(seed)
    made = []
    for v, w in zip(model.weights, model.get_weights(), strict=True):
        positive = "variance" in v.path
        noise = rng.normal(0, 0.1, w.shape)
        made.append((np.abs(w + noise) + 0.1 if positive else w + noise).astype(w.dtype))
    model.set_weights(made)
    return model


def unet() -> Any:
    k, x = keras.layers, keras.Input((16, 16, 1))
    a = k.Conv2D(8, 3, padding="same", activation="relu")(x)
    b = k.Conv2D(16, 3, padding="same", activation="relu")(k.MaxPooling2D()(a))
    c = k.Conv2D(16, 3, padding="same", activation="relu")(k.MaxPooling2D()(b))
    d = k.Concatenate()([k.Conv2DTranspose(16, 2, strides=2)(c), b])
    d = k.Conv2D(8, 3, padding="same", activation="relu")(k.Dropout(0.2)(d))
    e = k.Concatenate()([k.Conv2DTranspose(8, 3, strides=2, padding="same")(d), a])
    return randomized(keras.Model(x, k.Conv2D(1, 1, activation="sigmoid")(e)))


def signal() -> Any:
    """A 1-D CNN for three sensors."""
    k = keras.layers
    layers = [
        *(keras.Input((64, 3)), k.Conv1D(8, 5, strides=2, padding="same"), k.BatchNormalization(), k.ReLU()),
        *(
            k.MaxPooling1D(2),
            k.SeparableConv1D(16, 3, activation="relu"),
            k.Conv1D(16, 3, padding="causal"),
            k.AveragePooling1D(2),
        ),
        *(k.Flatten(), k.Dense(16, activation="relu"), k.Dropout(0.3), k.Dense(4, activation="softmax")),
    ]
    return randomized(keras.Sequential(layers))


def autoencoder() -> Any:
    k = keras.layers
    layers = [keras.Input((64,))]
    for width in (32, 8, 32):
        layers += [k.Dense(width), k.BatchNormalization(), k.Activation("relu")]
    return randomized(keras.Sequential([*layers, k.Dense(64)]))


def mlp() -> Any:
    k = keras.layers
    normalization = k.Normalization(mean=[1.0, -2.0, 0.5, 3.0], variance=[1.0, 4.0, 0.25, 9.0])
    layers = [keras.Input((4,)), normalization, k.Dense(16, activation="tanh"), k.Dense(1)]
    return randomized(keras.Sequential(layers))


def detector() -> Any:
    """Heads on two scales, which give boxes and classes: four outputs."""
    k, x = keras.layers, keras.Input((32, 32, 3), name="image")
    body = keras.Sequential(
        [
            *(k.Rescaling(1 / 127.5, offset=-1), k.Conv2D(8, 3, strides=2, padding="same"), k.LeakyReLU(0.1)),
            *(k.ZeroPadding2D(((0, 1), (0, 1))), k.DepthwiseConv2D(3, strides=2), k.Conv2D(16, 1), k.ReLU(6.0)),
        ],
        name="body",
    )
    fine = body(x)
    coarse = k.MaxPooling2D(2)(fine)
    box, kind = k.Conv2D(8, 3, padding="same", name="box"), k.Conv2D(6, 3, padding="same", name="kind")
    outputs = []
    for scale in (fine, coarse):  # the heads are shared
        outputs += [k.Reshape((-1, 4))(box(scale)), k.Softmax()(k.Reshape((-1, 3))(kind(scale)))]
    return randomized(keras.Model(x, outputs))


def two_inputs() -> Any:
    k = keras.layers
    image, side = keras.Input((8, 8, 1), name="image"), keras.Input((3,), name="side")
    a = k.GlobalAveragePooling2D()(k.Conv2D(8, 3, activation="silu")(image))
    b = k.Dense(8, activation="relu")(side)
    joined = k.Concatenate()([k.Multiply()([a, b]), k.Maximum()([a, b])])
    return randomized(keras.Model([image, side], k.Dense(2)(joined)))


def squeeze_excite() -> Any:
    """With operations of keras.ops between layers."""
    k, ops, x = keras.layers, keras.ops, keras.Input((12, 12, 3))
    y = k.Conv2D(8, 3, padding="same", use_bias=False)(x)
    y = y * ops.relu6(y + 3.0) / 6.0
    gate = ops.mean(y, axis=(1, 2), keepdims=True)
    gate = k.Conv2D(8, 1, activation="hard_sigmoid")(k.Conv2D(4, 1, activation="relu")(gate))
    y = y * gate
    y = ops.concatenate([y[:, ::2, ::2], y[:, 1::2, 1::2]], axis=-1)
    left, right = ops.split(y, 2, axis=-1)
    y = k.Average()([left, right]) - 0.5 * right
    return randomized(keras.Model(x, ops.softmax(k.Dense(5)(k.Flatten()(y)))))


NETWORKS = {f.__name__: f for f in (unet, signal, autoencoder, mlp, detector, two_inputs, squeeze_excite)}
