"""The training loop, distillation, normalization, the closed-form head."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from training_cases import preprocessing, residual_network, some_inputs, stripes, training_images

from thumbnet.data import Augmentation
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.graph.passes import clean
from thumbnet.training.distill import CrossEntropy, Distillation, teacher_outputs
from thumbnet.training.head import refit_head
from thumbnet.training.loop import Images, Schedule, accuracy, predict, recalibrate, train
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import insert_batch_norm, restore_names


def test_inserting_batch_norm_keeps_the_function_and_folding_it_gives_the_names_back() -> None:
    graph = residual_network()
    x = some_inputs()
    normalized = insert_batch_norm(graph, x)
    before = evaluate_graph(graph, x.numpy())
    np.testing.assert_allclose(evaluate_graph(normalized, x.numpy()), before, rtol=1e-4, atol=1e-4)
    folded = restore_names(clean(normalized))
    assert [n.name for n in folded.nodes] == [n.name for n in graph.nodes]
    np.testing.assert_allclose(evaluate_graph(folded, x.numpy()), before, rtol=1e-4, atol=1e-4)


def test_inserted_batch_norms_pass_their_batch_on_unchanged_in_training_mode() -> None:
    x = some_inputs(64)
    module = GraphModule(insert_batch_norm(residual_network(), x))
    with torch.no_grad():
        training, inference = module.train()(x), module.eval()(x)
    torch.testing.assert_close(training, inference, rtol=1e-3, atol=1e-3)


def test_training_learns_and_is_reproducible_to_the_bit() -> None:
    data = training_images()

    def run() -> torch.Tensor:
        module = GraphModule(insert_batch_norm(residual_network(), data.normalized(slice(0, 32))))
        curve = train(
            module, data, CrossEntropy(), Schedule(60, batch=16, average=0.9), augmentation=Augmentation(), seed=3
        )
        assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]
        return predict(module, data)

    first, second = run(), run()
    assert torch.equal(first, second)
    assert accuracy(first, data.labels) > 80


def test_the_rate_warms_up_and_ends_where_it_should() -> None:
    schedule = Schedule(100, rate=1.0, final_rate=0.25, warmup=0.1)
    rates = [schedule.rate_at(k) for k in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] == pytest.approx(0.25, abs=1e-3)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_a_loss_that_is_not_finite_stops_training() -> None:
    data = training_images()
    module = GraphModule(residual_network())
    with pytest.raises(FloatingPointError, match="step 0"):
        train(
            module,
            data,
            lambda outputs, labels, indices: outputs.sum() * float("nan"),
            Schedule(3),
            augmentation=Augmentation.named("none"),
            seed=0,
        )


def test_distillation_is_least_where_the_student_agrees_with_the_teacher() -> None:
    teacher = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    indices = torch.tensor([3, 1])
    objective = Distillation(teacher, weight=1.0, temperature=4.0)
    labels = torch.zeros(2, dtype=torch.int64)
    assert float(objective(teacher[indices] + 7.0, labels, indices)) == pytest.approx(0, abs=1e-6)
    assert float(objective(teacher[indices].flip(1), labels, indices)) > 0.1
    plain = Distillation(teacher, weight=0.0)
    assert float(plain(teacher[indices], labels, indices)) == pytest.approx(
        float(F.cross_entropy(teacher[indices], labels))
    )


def test_teacher_outputs_average_an_image_and_its_mirror() -> None:
    data = training_images()
    module = GraphModule(residual_network())
    heard: list[int] = []
    both = teacher_outputs(module, data, mirrored=True, on_images=heard.append)
    with torch.no_grad():
        x = data.normalized(slice(0, 8))
        expected = (module(x) + module(x.flip(3))) / 2
    torch.testing.assert_close(both[:8], expected, rtol=1e-4, atol=1e-4)
    assert sum(heard) == 2 * len(data)


def test_the_refitted_head_is_the_least_squares_fit() -> None:
    data = training_images()
    module = GraphModule(residual_network())
    x = data.normalized(slice(None))
    with torch.no_grad():
        features = module.eval().forward_values(x)["pool"].double()
    truth = torch.randn(3, features.shape[1], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    teacher = (features @ truth.T + 0.5).float()
    assert refit_head(module, data, torch.arange(len(data)), teacher)
    residual = predict(module, data) - teacher
    assert float(residual.square().mean()) < 0.02 * float((teacher - teacher.mean(0)).square().mean())


def test_recalibration_makes_running_statistics_those_of_the_data() -> None:
    data = training_images()
    x = data.normalized(slice(None))
    module = GraphModule(insert_batch_norm(residual_network(), x + 3.0))  # measured on other images
    recalibrate(module, data, torch.arange(len(data)), batch=len(data))
    with torch.no_grad():
        recalibrated = module.eval()(x)
        module.train()
        torch.testing.assert_close(recalibrated, module(x), rtol=1e-2, atol=1e-2)


def test_images_are_normalized_as_the_preprocessing_says() -> None:
    data = stripes()
    images = Images.of(data.train, preprocessing())
    expected = preprocessing().normalize(data.train.images((16, 16)))
    np.testing.assert_allclose(images.normalized(slice(None)).numpy(), expected, rtol=1e-5, atol=1e-6)
