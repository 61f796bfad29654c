"""DeepLabv3: counts as published, equal to transformers, and a deployment form that computes the same."""

import pytest
import torch

from mvit_deploy.checkpoints import huggingface
from mvit_deploy.errors import UsageError
from mvit_deploy.nn.build import count_macs, count_parameters, seeded_segmenter
from mvit_deploy.nn.channels_last import channels_last
from mvit_deploy.nn.config import CONFIGS
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.heads.segmentation import Ended, Segmenter, segmenter
from tests.twins import transformers_model

# apple/ml-cvnets v0.1 with 21 classes at 512x512.
PARAMETERS = {"xxs": 1_854_853, "xs": 2_944_069, "s": 6_357_941}
GIGA_MACS = {"xxs": 3.95, "xs": 7.38, "s": 13.69}


@pytest.mark.parametrize("mode", PARAMETERS)
def test_counts_are_the_published_ones(mode: str) -> None:
    model = segmenter(mode)

    assert count_parameters(model) == PARAMETERS[mode]
    assert round(count_macs(model, (512, 512)) / 1e9, 2) == GIGA_MACS[mode]


@pytest.mark.parametrize(("stride", "sides"), [(16, (6, 10)), (8, (12, 20))])
def test_the_logits_lie_at_the_output_stride(stride: int, sides: tuple[int, int]) -> None:
    with torch.no_grad():
        logits = segmenter("xxs", 5, output_stride=stride).eval()(torch.rand(2, 3, 96, 160))

    assert logits.shape == (2, 5, *sides)


def twin(model: Segmenter) -> torch.nn.Module:
    """transformers' segmenter with a model's weights; that these fit is what strict loading over there says."""
    rates = [conv.conv.dilation[0] for conv in list(model.head.aspp)[1:]]
    settings = {"num_labels": model.num_classes, "output_stride": model.backbone.output_stride, "atrous_rates": rates}
    theirs = transformers_model("MobileViTForSemanticSegmentation", model.mode, **settings)
    theirs.load_state_dict(huggingface.rename(model.state_dict()), strict=True)
    return theirs.eval()


@pytest.mark.parametrize("mode", CONFIGS)
@pytest.mark.parametrize("stride", [16, 8])
def test_logits_equal_transformers_with_the_same_weights(mode: str, stride: int) -> None:
    model = seeded_segmenter(mode, output_stride=stride)
    images = torch.rand(2, 3, 160, 224, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        expected, logits = twin(model)(images).logits, model(images)

    assert ((logits - expected).abs().max() / expected.abs().max()).item() <= 1e-5


def test_upsampled_logits_and_class_maps_are_those_of_transformers_post_processing() -> None:
    """Its processor resizes bilinearly, with half-pixel centres, and takes the class of each pixel."""
    transformers = pytest.importorskip("transformers")
    model = seeded_segmenter("xxs")
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        output = twin(model)(image)
        (expected,) = transformers.MobileViTImageProcessor().post_process_semantic_segmentation(output, [(64, 96)])
        upsampled, classes = (Ended(model, upsampled=True, classes=flag)(image) for flag in (False, True))

    assert upsampled.shape == (1, 21, 64, 96)
    assert classes.shape == (1, 64, 96)
    assert (classes[0] == expected).float().mean().item() > 0.999
    assert torch.equal(classes, upsampled.argmax(dim=1))


@pytest.mark.parametrize("stride", [16, 8])
def test_the_deployment_forms_compute_the_same(stride: int) -> None:
    model, image = seeded_segmenter("xxs", output_stride=stride), torch.rand(2, 3, 96, 160)
    fused = fuse(model)

    with torch.no_grad():
        expected = model(image)
        for form in (fused, channels_last(fused)):
            assert ((form(image) - expected).abs().max() / expected.abs().max()).item() <= 1e-5


def test_the_pooled_branch_is_projected_as_a_single_point() -> None:
    """A fifth of the projection's multiply-accumulates at each point, saved; nothing is spread out."""
    model = seeded_segmenter("xxs")
    saved = 256 * 256 * (32 * 32 - 1)

    assert count_macs(model, (512, 512)) - count_macs(fuse(model), (512, 512)) == saved


def test_unknown_strides_and_too_few_classes_are_refused() -> None:
    with pytest.raises(UsageError, match="output stride 32; a segmenter has: 16, 8"):
        segmenter("xxs", output_stride=32)
    with pytest.raises(UsageError, match="at least one class, not 1"):
        segmenter("xxs", 1)


def test_no_shape_operator_is_in_an_export() -> None:
    model, image = Ended(fuse(seeded_segmenter("xxs", 3)), upsampled=True).eval(), torch.rand(1, 3, 96, 160)

    traced = {node.kind() for node in torch.jit.trace(model, image, check_trace=False).inlined_graph.nodes()}
    exported = {str(node.target) for node in torch.export.export(model, (image,)).graph.nodes}

    assert not traced & {"aten::size", "aten::Int", "prim::NumToTensor", "prim::If", "prim::Loop"}
    assert not any("sym_size" in target for target in exported)
