"""The network is the paper's: counts, shapes, training, sizes."""

import itertools

import pytest
import torch
from torch import nn

import mvit_deploy
from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.build import count_macs, count_parameters, randomize, seeded_classifier
from mvit_deploy.nn.heads.classification import classifier
from mvit_deploy.nn.layers import make_divisible
from mvit_deploy.parity import TOLERANCES
from tests.conftest import sensitive

# Published counts (paper table 4; ml-cvnets, timm and transformers agree); MACs by ml-cvnets' main profiler.
PARAMETERS = {"xxs": 1_272_024, "xs": 2_317_848, "s": 5_578_632}
MEGA_MACS = {"xxs": (407.4, 301.5), "xs": (1025.9, 772.3), "s": (2000.8, 1521.5)}
CHANNELS = {"xxs": 320, "xs": 384, "s": 640}


@pytest.mark.parametrize("mode", PARAMETERS)
def test_parameters_are_exactly_the_published_ones(mode: str) -> None:
    assert count_parameters(classifier(mode)) == PARAMETERS[mode]


@pytest.mark.parametrize("mode", MEGA_MACS)
def test_macs_are_the_published_ones(mode: str) -> None:
    at_256, at_224 = MEGA_MACS[mode]

    assert count_macs(sensitive(mode), (256, 256)) / 1e6 == pytest.approx(at_256, abs=0.05)
    assert count_macs(sensitive(mode), (224, 224)) / 1e6 == pytest.approx(at_224, abs=0.05)


@pytest.mark.parametrize("mode", CHANNELS)
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 288)])
def test_the_backbone_ends_in_a_map_at_stride_32(mode: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        features = MobileViT(mode).eval()(torch.rand(2, 3, *size))

    assert features.shape == (2, CHANNELS[mode], size[0] // 32, size[1] // 32)


def test_the_sentence_in_kornias_documentation_works_with_our_class() -> None:
    model = nn.Sequential(
        mvit_deploy.MobileViT(mode="xxs"), nn.AvgPool2d(256 // 32, 1), nn.Flatten(), nn.Linear(320, 1000)
    )

    assert model(torch.rand(1, 3, 256, 256)).shape == (1, 1000)


def test_the_constructor_takes_what_kornias_takes() -> None:
    model = MobileViT(mode="xs", in_channels=4, patch_size=(4, 2), dropout=0.2).eval()

    assert model(torch.rand(1, 4, 64, 64)).shape == (1, 384, 2, 2)
    assert model.layer_3[1].transformer[0].dropout.p == 0.2


@pytest.mark.parametrize(("mode", "dropout"), [("xxs", 0.05), ("xs", 0.1), ("s", 0.1)])
def test_dropout_is_the_papers_unless_said_otherwise(mode: str, dropout: float) -> None:
    assert MobileViT(mode).layer_4[1].transformer[3].dropout.p == dropout


def test_dropout_acts_in_training_and_not_in_evaluation() -> None:
    model = seeded_classifier("xxs", 5)
    image = torch.rand(2, 3, 64, 64)

    with torch.no_grad():
        trained = [model.train()(image) for _ in range(2)]
        evaluated = [model.eval()(image) for _ in range(2)]

    assert not torch.equal(*trained)
    assert torch.equal(*evaluated)


def test_a_few_steps_of_training_lower_the_loss_and_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = classifier("xxs", 2, dropout=0.0).train()
    images = torch.cat([torch.rand(4, 3, 64, 64) * 0.3, torch.rand(4, 3, 64, 64) * 0.3 + 0.7])
    labels = torch.tensor([0] * 4 + [1] * 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()

    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("size", "nearest"),
    [((250, 250), "224x224 and 256x256"), ((256, 250), "256x224 and 256x256"), ((16, 64), "32x64"), ((0, 0), "32x32")],
)
def test_a_size_that_does_not_work_names_the_nearest_that_do(size: tuple[int, int], nearest: str) -> None:
    with pytest.raises(ShapeError, match=nearest):
        MobileViT("xxs")(torch.zeros(1, 3, *size))


def test_wrong_channels_and_unknown_modes_are_refused_by_name() -> None:
    with pytest.raises(ShapeError, match="4 channels"):
        MobileViT("xxs")(torch.zeros(1, 4, 64, 64))
    with pytest.raises(
        UsageError, match=r"unknown mode 'xss'.*did you mean 'xxs'|unknown mode 'xss'.*did you mean 'xs'"
    ):
        MobileViT("xss")
    with pytest.raises(UsageError, match="at least one class"):
        classifier("xxs", 0)


def test_random_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (seeded_classifier("xxs", 5, seed=seed).state_dict() for seed in (3, 3, 4))

    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["backbone.stem.conv.weight"], other["backbone.stem.conv.weight"])


@pytest.mark.parametrize("mode", PARAMETERS)
def test_random_weights_make_attention_matter(mode: str) -> None:
    """Swapping q and k, or losing the scale, must show: with plain initialisation it would be lost in rounding."""
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    faults = {"swapped": lambda qkv: qkv.roll(qkv.shape[0] // 3, 0), "no scale": None}
    with torch.no_grad():
        reference = sensitive(mode)(image)
        for name, fault in faults.items():
            model = seeded_classifier(mode)
            attention = model.backbone.layer_5[1].transformer[-1].attention
            if fault is None:
                attention.scale = 1.0
            else:
                attention.qkv.weight.copy_(fault(attention.qkv.weight))
            difference = (model(image) - reference).abs().max() / reference.abs().max()
            assert difference > 5 * TOLERANCES["fp32"].rel_max_each, name


def test_randomize_draws_statistics_that_are_not_trivial() -> None:
    model = randomize(classifier("xxs", 5), seed=1)

    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.running_mean.abs().max() > 0.05 for norm in norms)
    assert all((norm.running_var - 1).abs().max() > 0.1 for norm in norms)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("mode", "size"), list(itertools.product(("xxs", "s"), ((256, 256), (160, 288)))))
def test_no_shape_operator_is_in_a_trace_or_an_export(mode: str, size: tuple[int, int]) -> None:
    model, image = sensitive(mode), torch.rand(1, 3, *size)

    traced = {node.kind() for node in torch.jit.trace(model, image, check_trace=False).inlined_graph.nodes()}
    exported = {str(node.target) for node in torch.export.export(model, (image,)).graph.nodes}

    assert not traced & {"aten::size", "aten::Int", "prim::NumToTensor", "prim::If", "prim::Loop"}
    assert not any("sym_size" in target for target in exported)


@pytest.mark.parametrize(("channels", "expected"), [(32, 32), (33, 32), (36, 40), (4, 8), (12, 16)])
def test_make_divisible(channels: int, expected: int) -> None:
    assert make_divisible(channels) == expected
