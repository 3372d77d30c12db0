"""Networks with decoders: where they start, and that no sample sees another."""

from typing import Any, cast

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from ssl4eo_bench.labels.pixel_maps import dense_logits
from ssl4eo_bench.models.dense import DenseFeatures
from ssl4eo_bench.models.preprocess import Preprocess
from ssl4eo_bench.models.timm_model import TimmBackbone
from ssl4eo_bench.solver.path import Head
from ssl4eo_bench.solver.standardisation import Standardisation
from ssl4eo_bench.training.decoders import Segmenter

ARCHITECTURES = [("test_resnet", 64), ("test_resnet", 72), ("test_vit", 48), ("test_vit", 64), ("test_convnext", 64)]


def segmenter(arch: str, side: int) -> tuple[Segmenter, DenseFeatures, Head]:
    """A network for inputs of this size, with a probe of random weights on its dense features."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"img_size": side} if "vit" in arch else {}
    backbone = TimmBackbone(timm.create_model(arch, num_classes=0, **options))
    network = DenseFeatures(cast(Preprocess, nn.Identity()), backbone).eval()
    width = int(network(torch.zeros(1, 3, side, side)).shape[1])
    standardisation = Standardisation(torch.randn(width), torch.rand(width) + 0.5)
    head = Head(standardisation, 1.0, torch.randn(5, width + 1), 0.0, 1, converged=True, explained=1.0)
    return Segmenter(network, *head.unstandardised()), network, head


@pytest.mark.parametrize(("arch", "side"), ARCHITECTURES)
def test_it_starts_at_the_solution_of_the_linear_probe(arch: str, side: int) -> None:
    model, network, head = segmenter(arch, side)
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        logits, expected = model.eval()(images), dense_logits(head, network(images).numpy())
        assert logits.shape[-1] >= side // 4
        resized = functional.interpolate(expected, size=logits.shape[-2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, resized, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_no_sample_sees_another_in_training(arch: str) -> None:
    model, _, _ = segmenter(arch, 64)
    nn.init.normal_(model.out.weight)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    images = torch.randn(3, 3, 64, 64)
    together, alone = model(images), torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_every_parameter_is_trained(arch: str) -> None:
    model, _, _ = segmenter(arch, 64)
    nn.init.normal_(model.out.weight)
    model.train()(torch.randn(2, 3, 64, 64)).square().sum().backward()
    grouped = [parameter for group in model.groups(0.05, 0.75) for parameter in group["params"]]
    assert {id(parameter) for parameter in grouped} == {id(parameter) for parameter in model.parameters()}
    untouched = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not [name for name in untouched if not name.startswith("network.")]


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_it_learns(arch: str) -> None:
    model, _, _ = segmenter(arch, 64)
    nn.init.normal_(model.head.weight, std=0.01)
    images = torch.randn(4, 3, 64, 64)
    labels = (functional.avg_pool2d(images[:, :1], 9, stride=1, padding=4) > 0)[:, 0].long()
    optimiser = torch.optim.AdamW(model.groups(0.05, 0.75), lr=1e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        logits = functional.interpolate(model.train()(images), size=64, mode="bilinear")
        loss = functional.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
