"""Keras models and their files → the float graph, compared with Keras."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_networks import NETWORKS, keras, randomized, saved

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.evaluate import evaluate_values
from thumbnet.importers.imported import Imported
from thumbnet.importers.keras import check_keras, import_keras
from thumbnet.importers.load import check_nodes, load_imported

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # Keras's
K = keras.layers
SHARED = Path(os.environ.get("THUMBNET_SHARED", "")) / "models" / "mlperf_tiny"
SAMPLES = Path(os.environ.get("THUMBNET_SHARED", "")) / "data" / "mlperf_tiny_samples"


def outputs(made: Imported, *given: np.ndarray) -> list[np.ndarray]:
    """Of the graph, in the axes of Keras."""
    feeds = {
        p.name: torch.from_numpy(np.ascontiguousarray(p.to_graph(x))) for p, x in zip(made.inputs, given, strict=True)
    }
    values = evaluate_values(made.graph, feeds)
    return [p.to_source(values[p.name].numpy()) for p in made.outputs]


def inputs_for(model: Any, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(count, *x.shape[1:])).astype(np.float32) for x in model.inputs]


@pytest.mark.parametrize("suffix", ["", ".keras", ".h5"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_what_keras_computes(name: str, suffix: str, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    made = import_keras(saved(model, tmp_path / f"net{suffix}") if suffix else model)
    given = inputs_for(model)
    expected = [np.asarray(y.detach()) for y in keras.tree.flatten(model(given if len(given) > 1 else given[0]))]
    for own, reference in zip(outputs(made, *given), expected, strict=True):
        assert own.shape == reference.shape
        np.testing.assert_allclose(own, reference, atol=2e-5 * max(1.0, float(np.abs(reference).max())))
    assert made.max_difference <= made.tolerance
    if suffix:
        assert {r.state for r in check_keras(tmp_path / f"net{suffix}")} == {"supported"}


@pytest.mark.parametrize(
    ("name", "size", "more"),
    [
        ("MobileNet", 64, {"alpha": 0.25}),
        ("MobileNetV2", 64, {"alpha": 0.35}),
        ("MobileNetV3Small", 64, {"alpha": 0.75, "include_preprocessing": True}),
        ("EfficientNetB0", 32, {}),
    ],
)
def test_networks_of_keras_applications(name: str, size: int, more: dict[str, Any], tmp_path: Path) -> None:
    application = getattr(keras.applications, name)
    model = application(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None, **more)
    made = import_keras(saved(model, tmp_path / "net.h5"))
    (x,) = inputs_for(model, 2)
    expected = np.asarray(model(x, training=False).detach())
    np.testing.assert_allclose(outputs(made, x)[0], expected, atol=1e-5 * np.abs(expected).max())


def test_a_layer_of_several_calls_and_models_within_models() -> None:
    inner = keras.Sequential([keras.Input((6, 6, 2)), K.Conv2D(2, 3, padding="same", activation="relu")], name="inner")
    x = keras.Input((6, 6, 2))
    middle = keras.Model(x, [inner(inner(x)), inner(x)], name="middle")
    y = keras.Input((6, 6, 2))
    first, second = middle(y)
    model = randomized(keras.Model(y, [K.Subtract()([first, second]), middle(second)[0]]))
    assert import_keras(model).max_difference < 1e-5


def test_models_within_models_from_files(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((6, 6, 2)), K.Conv2D(2, 3, padding="same", activation="relu")], name="inner")
    x = keras.Input((6, 6, 2))
    middle = keras.Model(x, [inner(inner(x)), inner(x)], name="middle")
    y = keras.Input((6, 6, 2))
    first, second = middle(y)
    model = randomized(keras.Model(y, [K.Subtract()([first, second]), middle(second)[0]]))
    (given,) = inputs_for(model)
    expected = [np.asarray(v.detach()) for v in model(given)]
    for suffix in (".keras", ".h5"):
        made = import_keras(saved(model, tmp_path / f"net{suffix}"))
        for own, reference in zip(outputs(made, given), expected, strict=True):
            np.testing.assert_allclose(own, reference, atol=1e-5)


# --- layer by layer


def L(name: str, *args: Any, **kw: Any) -> Any:  # noqa: N802
    return lambda: getattr(K, name)(*args, **kw)


IMAGE, SIGNAL, VECTOR = (9, 8, 4), (12, 4), (10,)
PADDINGS = ("same", "valid")
LAYERS: list[tuple[tuple[int, ...], Any]] = [
    *(
        (IMAGE, L("Conv2D", 6, k, strides=s, padding=p))
        for k in (1, 3, (2, 5))
        for s in (1, 2)
        for p in ("same", "valid")
    ),
    (IMAGE, L("Conv2D", 6, 3, dilation_rate=2, padding="same", use_bias=False, activation="elu")),
    (IMAGE, L("Conv2D", 8, 3, groups=2, activation="hard_silu")),
    (IMAGE, L("Conv2D", 4, 3, groups=4)),
    *(
        (IMAGE, L("DepthwiseConv2D", k, strides=2, padding=p, depth_multiplier=m))
        for k in (2, 3)
        for p in ("same", "valid")
        for m in (1, 2)
    ),
    (IMAGE, L("SeparableConv2D", 6, 3, strides=2, padding="same", depth_multiplier=2, activation="relu6")),
    *(
        (IMAGE, L("Conv2DTranspose", 3, k, strides=s, padding=p))
        for k in (2, 3, 4)
        for s in (1, 2, 3)
        for p in ("same", "valid")
    ),
    (IMAGE, L("Conv2DTranspose", 3, 3, strides=2, padding="same", output_padding=1, activation="sigmoid")),
    (IMAGE, L("Conv2DTranspose", 3, (2, 3), dilation_rate=2)),
    *((SIGNAL, L("Conv1D", 5, 3, strides=s, padding=p)) for s in (1, 2) for p in ("same", "valid", "causal")),
    (SIGNAL, L("Conv1D", 5, 3, dilation_rate=2, padding="causal")),
    (SIGNAL, L("DepthwiseConv1D", 3, depth_multiplier=2, padding="same")),
    (SIGNAL, L("SeparableConv1D", 5, 3)),
    (SIGNAL, L("Conv1DTranspose", 3, 3, strides=2, padding="same")),
    *((shape, L("Dense", 5, activation="silu")) for shape in (IMAGE, SIGNAL, VECTOR, (1, 1, 4))),
    *((shape, L("BatchNormalization", epsilon=0.01)) for shape in (IMAGE, SIGNAL, VECTOR)),
    (IMAGE, L("BatchNormalization", axis=1, scale=False)),
    (IMAGE, L("BatchNormalization", center=False)),
    (IMAGE, L("Rescaling", 1 / 255, offset=-0.5)),
    (IMAGE, L("Rescaling", [1.0, 2.0, 3.0, 4.0], offset=[0.0, 0.0, 1.0, -1.0])),
    (IMAGE, L("Normalization", mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 4.0, 9.0, 0.5])),
    (IMAGE, L("Normalization", mean=1.0, variance=2.0, axis=None, invert=True)),
    *(
        (IMAGE, L(f"{n}Pooling2D", k, strides=s, padding=p))
        for n in ("Max", "Average")
        for k in (2, 3)
        for s in (1, 2)
        for p in ("same", "valid")
    ),
    *((SIGNAL, L(f"{n}Pooling1D", 3, strides=2, padding="same")) for n in ("Max", "Average")),
    *((IMAGE, L(f"Global{n}Pooling2D", keepdims=k)) for n in ("Max", "Average") for k in (True, False)),
    *((SIGNAL, L(f"Global{n}Pooling1D", keepdims=k)) for n in ("Max", "Average") for k in (True, False)),
    *(
        (IMAGE, L("Activation", a))
        for a in ("relu", "relu6", "leaky_relu", "elu", "sigmoid", "tanh", "silu", "softmax")
    ),
    *((IMAGE, L("Activation", a)) for a in ("hard_sigmoid", "hard_silu", "linear")),
    *((VECTOR, L("Activation", a)) for a in ("log_softmax", "softmax")),
    *((VECTOR, L("ReLU", **kw)) for kw in ({}, {"max_value": 6}, {"max_value": 1.5}, {"negative_slope": 0.2})),
    (IMAGE, L("PReLU", shared_axes=[1, 2])),
    *((VECTOR, L(n)) for n in ("LeakyReLU", "ELU", "Softmax", "PReLU")),
    (SIGNAL, L("Softmax")),
    *((IMAGE, L(n)) for n in ("Flatten", "Identity")),
    *((IMAGE, L(n, 0.3)) for n in ("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout")),
    *((IMAGE, L(n, 0.3)) for n in ("RandomRotation", "RandomZoom", "RandomContrast", "RandomBrightness")),
    (IMAGE, L("RandomFlip")),
    (SIGNAL, L("SpatialDropout1D", 0.3)),
    (IMAGE, L("ActivityRegularization", l2=0.1)),
    *((IMAGE, L("Reshape", s)) for s in ((-1,), (36, 8), (8, 9, 4), (4, 8, 9), (72, -1), (3, 3, 32))),
    (VECTOR, L("Reshape", (5, 1, 2))),
    *((IMAGE, L("Permute", p)) for p in ((2, 1, 3), (3, 1, 2), (3, 2, 1))),
    (SIGNAL, L("Permute", (2, 1))),
    (IMAGE, L("ZeroPadding2D", ((1, 2), (0, 3)))),
    (SIGNAL, L("ZeroPadding1D", (2, 1))),
    (IMAGE, L("Cropping2D", ((1, 2), (0, 3)))),
    (SIGNAL, L("Cropping1D", (2, 1))),
    *((IMAGE, L("UpSampling2D", f, interpolation=i)) for f in (2, (1, 3)) for i in ("nearest", "bilinear")),
    (SIGNAL, L("UpSampling1D", 3)),
]


@pytest.mark.parametrize("k", range(len(LAYERS)))
def test_a_layer(k: int) -> None:
    """Followed by a convolution or a dense layer that tells the order of numbers apart."""
    shape, make = LAYERS[k]
    x = keras.Input(shape)
    y = make()(x)
    z = {4: K.Conv2D(3, 1), 3: K.Conv1D(3, 1), 2: K.Dense(3)}[len(y.shape)](y)
    model = randomized(keras.Model(x, z))
    made = import_keras(model)
    assert made.max_difference <= 2e-5


@pytest.mark.parametrize(
    "make",
    [
        lambda: K.Conv2D(6, 3, strides=2, padding="same", data_format="channels_first"),
        lambda: K.DepthwiseConv2D(3, data_format="channels_first"),
        lambda: K.Conv2DTranspose(3, 3, strides=2, padding="same", data_format="channels_first"),
        lambda: K.AveragePooling2D(2, padding="same", data_format="channels_first"),
        lambda: K.GlobalAveragePooling2D(data_format="channels_first"),
        lambda: K.ZeroPadding2D(1, data_format="channels_first"),
        lambda: K.UpSampling2D(2, data_format="channels_first"),
        lambda: K.Flatten(data_format="channels_first"),
    ],
)
def test_channels_first(make: Any) -> None:
    x = keras.Input((4, 9, 7))
    y = make()(x)
    z = K.Conv2D(3, 1, data_format="channels_first")(y) if len(y.shape) == 4 else K.Dense(3)(y)
    made = import_keras(randomized(keras.Model(x, K.Flatten()(z) if len(z.shape) > 2 else z)))
    assert made.max_difference <= 2e-5
    assert made.graph.inputs[0].shape == (4, 9, 7)


OPERATIONS = [
    *("x + 1.0", "2.0 - x", "x * 0.5", "x / 4.0", "-x", "abs(x)", "x * x", "ops.square(x)", "x - ops.tanh(x)"),
    *("ops.maximum(x, 0.0)", "ops.clip(x, -1.0, 2.0)", "ops.leaky_relu(x, 0.1)", "ops.elu(x)", "ops.hard_sigmoid(x)"),
    *("ops.hard_silu(x)", "ops.silu(x)", "ops.softmax(x)", "ops.mean(x, axis=(1, 2))", "ops.max(x, axis=(1, 2))"),
    *(
        "ops.mean(x, axis=-1, keepdims=True)",
        "ops.sum(x, axis=(1, 2), keepdims=True)",
        "ops.transpose(x, (0, 2, 1, 3))",
    ),
    *("ops.reshape(x, (-1, 24, 4))", "ops.expand_dims(ops.mean(x, axis=(1, 2)), 1)", "ops.squeeze(x[:, 0:1], 1)"),
    *("x[:, 1:-1, ::2]", "x[..., 1:3]", "x[:, 2]", "ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)))"),
    *("ops.split(x, 2, axis=-1)[1]", "ops.concatenate([x, x * 2.0], axis=1)", "x * ops.mean(x, (1, 2), True)"),
    "x + np.arange(4, dtype='float32')",
]


@pytest.mark.parametrize("text", OPERATIONS)
def test_an_operation(text: str) -> None:
    x = keras.Input((6, 4, 4))
    y = eval(text, {"ops": keras.ops, "np": np}, {"x": x})
    made = import_keras(randomized(keras.Model(x, [y, K.Dense(3)(K.Flatten()(y))])))
    assert made.max_difference <= 2e-5


# --- refusals


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda x: K.LayerNormalization()(x), "BatchNormalization"),
        (lambda x: K.LSTM(4)(K.Reshape((8, 8))(x)), "Conv1D"),
        (lambda x: K.Activation("gelu")(x), "silu"),
        (lambda x: K.ReLU(threshold=1.0)(x), "threshold"),
        (lambda x: K.Lambda(lambda v: v * 2)(x), "code"),
        (lambda x: K.RepeatVector(3)(K.Flatten()(x)), "UpSampling1D"),
        (lambda x: keras.ops.exp(x), "supported"),
    ],
)
def test_what_is_refused_says_what_to_do(make: Any, told: str) -> None:
    x = keras.Input((4, 4, 4))
    with pytest.raises(UnsupportedOpError, match=told):
        import_keras(keras.Model(x, make(x)))


def test_models_that_compute_in_code_are_refused() -> None:
    class Own(keras.Model):
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(ModelError, match="functional API"):
        import_keras(Own())


def test_open_sizes_are_given_by_the_user(tmp_path: Path) -> None:
    x = keras.Input((None, None, 3))
    model = randomized(keras.Model(x, K.GlobalAveragePooling2D()(K.Conv2D(4, 3)(x))))
    path = saved(model, tmp_path / "net.keras")
    for source in (model, path):
        with pytest.raises(ModelError, match="input_shape"):
            import_keras(source)
        assert import_keras(source, (10, 12, 3)).graph.inputs[0].shape == (3, 10, 12)
        assert load_imported(source, (3, 10, 12)).graph.inputs[0].shape == (3, 10, 12)  # as the command line says it
        assert [r.state for r in check_nodes(source, (3, 10, 12))] == ["supported"] * 2
        with pytest.raises(ModelError, match="input_shape"):
            load_imported(source, (1, 10, 12))


@pytest.mark.parametrize("given", [(3, 1, 20), (3, 20)])
def test_the_open_length_of_a_signal_is_given_by_the_user(given: tuple[int, ...], tmp_path: Path) -> None:
    x = keras.Input((None, 3))
    path = saved(randomized(keras.Model(x, K.GlobalAveragePooling1D()(K.Conv1D(4, 3)(x)))), tmp_path / "net.keras")
    assert load_imported(path, given).graph.inputs[0].shape == (3, 1, 20)


def test_open_sizes_with_the_channels_in_front(tmp_path: Path) -> None:
    x = keras.Input((3, None, None))
    y = K.GlobalAveragePooling2D(data_format="channels_first")(K.Conv2D(4, 3, data_format="channels_first")(x))
    path = saved(randomized(keras.Model(x, y)), tmp_path / "net.keras")
    assert load_imported(path, (3, 10, 12)).graph.inputs[0].shape == (3, 10, 12)


def test_check_goes_on_behind_what_is_refused(tmp_path: Path) -> None:
    x = keras.Input((8, 8, 3))
    y = K.LayerNormalization(name="norm")(K.Conv2D(4, 3, name="first")(x))
    y = K.Activation("relu", name="act")(K.Reshape((36, 4), name="shape")(y))
    model = keras.Model(x, K.Dense(3, activation="gelu", name="last")(K.LSTM(4, name="memory")(y)))
    reports = {r.name: r for r in check_keras(saved(model, tmp_path / "net.keras"))}
    assert {n: r.state for n, r in reports.items()} == {
        **dict.fromkeys(("first", "shape", "act"), "supported"),
        **dict.fromkeys(("norm", "memory", "last"), "refused"),
    }
    assert "BatchNormalization" in reports["norm"].reason


# --- real files


@pytest.mark.parametrize("name", ["vww_96", "ad01", "pretrainedResnet", "str_ww_ref_model"])
def test_mlperf_tiny(name: str) -> None:
    path = SHARED / f"{name}.h5"
    if not path.exists():
        pytest.skip("set THUMBNET_SHARED to the folder that holds models/mlperf_tiny")
    made = import_keras(path)
    assert made.max_difference <= 2e-5
    assert {r.state for r in check_keras(path)} == {"supported"}


def test_resnet8_classifies_as_published() -> None:
    if not SAMPLES.exists():
        pytest.skip("set THUMBNET_SHARED to the folder that holds data/mlperf_tiny_samples")
    with (SAMPLES / "ic01" / "y_labels.csv").open() as f:
        rows = [(r[0], int(r[2])) for r in csv.reader(f)]
    images = [np.fromfile(SAMPLES / "ic01" / name, np.uint8).reshape(32, 32, 3) for name, _ in rows]
    made = import_keras(SHARED / "pretrainedResnet.h5")
    given = np.stack(images).astype(np.float32)
    (scores,) = outputs(made, given)
    hits = (scores.argmax(1) == [label for _, label in rows]).mean()
    assert hits >= 0.845  # 85.0 % in int8
    assert np.abs(scores - made.run([given])[0]).max() < 2e-5


# --- what Keras 2 wrote


def _old_layer(kind: str, name: str, inputs: list[Any], **config: Any) -> dict[str, Any]:
    config = {"name": name, "trainable": True, "dtype": "float32", **config}
    return {"class_name": kind, "config": config, "name": name, "inbound_nodes": inputs}


def _old_file(path: Path, version: str = "2.11.0") -> tuple[np.ndarray, np.ndarray]:
    """hard_sigmoid(conv(x)) · relu6(… + 3) / 6, every other column of it, averaged; its kernel and bias."""
    import json

    import h5py

    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(3, 3, 2, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    conv = {"filters": 4, "kernel_size": [3, 3], "strides": [1, 1], "padding": "same", "data_format": "channels_last"}
    conv |= {"dilation_rate": [1, 1], "groups": 1, "activation": "hard_sigmoid", "use_bias": True}
    conv |= {
        "kernel_regularizer": {"class_name": "MyOwn>L3", "config": {}},
        "kernel_initializer": {"class_name": "Gone"},
    }
    columns = [{"start": None, "stop": None, "step": s} for s in (None, None, 2)]
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": [None, 6, 6, 2], "dtype": "float32", "sparse": False, "name": "x"},
            "name": "x",
            "inbound_nodes": [],
        },
        _old_layer("Conv2D", "conv", [[["x", 0, 0, {}]]], **conv),
        _old_layer("TFOpLambda", "plus", [["conv", 0, 0, {"y": 3.0, "name": None}]], function="__operators__.add"),
        _old_layer("ReLU", "relu", [[["plus", 0, 0, {}]]], max_value=6.0, negative_slope=0.0, threshold=0.0),
        _old_layer("TFOpLambda", "sixth", [["relu", 0, 0, {"y": 1 / 6, "name": None}]], function="math.multiply"),
        _old_layer("TFOpLambda", "gate", [["conv", 0, 0, {"y": ["sixth", 0, 0]}]], function="math.multiply"),
        _old_layer(
            "SlicingOpLambda", "cut", [["gate", 0, 0, {"slice_spec": columns}]], function="__operators__.getitem"
        ),
        _old_layer("LeakyReLU", "leaky", [[["cut", 0, 0, {}]]], alpha={"type": "ndarray", "value": 0.25}),
        _old_layer("GlobalAveragePooling2D", "mean", [[["leaky", 0, 0, {}]]], data_format="channels_last"),
    ]
    for layer in layers:
        if layer["class_name"] in ("TFOpLambda", "SlicingOpLambda"):  # one list less deep
            layer["inbound_nodes"] = [layer["inbound_nodes"]]
    config = {"name": "old", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["mean", 0, 0]]}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([layer["name"].encode() for layer in layers])
        group.attrs["keras_version"] = version
        for layer in layers:
            names = [b"conv/kernel:0", b"conv/bias:0"] if layer["name"] == "conv" else []
            group.create_group(layer["name"]).attrs["weight_names"] = np.array(names)
        group["conv/conv/kernel:0"], group["conv/conv/bias:0"] = kernel, bias
    return kernel, bias


@pytest.mark.parametrize("version", ["2.11.0", "3.1.0"])
def test_functions_of_tensorflow_and_the_hard_sigmoid_of_its_time(version: str, tmp_path: Path) -> None:
    kernel, bias = _old_file(tmp_path / "old.h5", version)
    made = import_keras(tmp_path / "old.h5")
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 2)).astype(np.float32)
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    y = torch.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2), weight, torch.from_numpy(bias), padding=1)
    y = (0.2 * y + 0.5).clip(0, 1) if version.startswith("2") else torch.nn.functional.hardsigmoid(y)
    y = torch.nn.functional.hardswish(y)[..., ::2]
    expected = torch.where(y < 0, 0.25 * y, y).mean((2, 3)).numpy()
    np.testing.assert_allclose(outputs(made, x)[0], expected, atol=1e-6)
    assert {r.state for r in check_keras(tmp_path / "old.h5")} == {"supported"}


def test_uneven_padding_does_not_count_in_averages() -> None:
    """As in TensorFlow; Keras on torch repeats the border instead."""
    x = keras.Input((4, 1))
    made = import_keras(keras.Model(x, K.AveragePooling1D(3, strides=2, padding="same")(x)))
    given = np.array([[[1.0], [2.0], [3.0], [4.0]]], np.float32)
    np.testing.assert_allclose(outputs(made, given)[0].reshape(-1), [2.0, 3.5])
    np.testing.assert_allclose(np.asarray(made.run([given])[0]).reshape(-1), [2.0, 3.5])


def test_check_of_a_live_model() -> None:
    x = keras.Input((4, 4, 4))
    model = keras.Model(x, K.GroupNormalization(2, name="norm")(K.Conv2D(4, 1, name="conv")(x)))
    assert {r.name: r.state for r in check_keras(model)} == {"conv": "supported", "norm": "refused"}
