"""Files that several tests look at, written once."""

from pathlib import Path

import pytest

import mvit_deploy
from mvit_deploy.report import Report
from tests.conftest import sensitive

LABELS = ("daisy", "dandelion", "rose", "sunflower", "tulip")
SIZE = (64, 96)  # not square, so that a swapped height and width shows


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """A small labelled classifier in every format and precision, by file suffix and precision."""
    folder = tmp_path_factory.mktemp("labelled")
    options = {"labels": LABELS, "image_size": SIZE, "output": folder, "precision": "fp32,fp16"}
    model = sensitive("xxs", len(LABELS))
    reports = mvit_deploy.export(model, target="all", **options)
    reports += mvit_deploy.export(model, target="coreml", format="mlmodel", **options)
    return {f"{r.path.suffix[1:]} {r.content['artifact']['precision']}": r for r in reports}


@pytest.fixture(scope="session")
def xs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The xs classifier at 256x256, fp32, by suffix: the network of which the sizes of graphs are published."""
    reports = mvit_deploy.export("xs", target="all", precision="fp32", output=tmp_path_factory.mktemp("xs"))
    assert [r.exit_code for r in reports] == [0, 0, 0]
    return {r.path.suffix[1:]: r.path for r in reports}
