"""The example page on a server of its own, with a network that reads digits, in a browser."""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

import mvit_deploy
from mvit_deploy.errors import MissingLibraryError
from mvit_deploy.spec import NEEDS_CALIBRATION
from tests.clients import tools
from tests.clients.browser import Browser, Page, chromium
from tests.conftest import PHOTOS, ROOT, quick_blame

PAGE = ROOT / "examples" / "web"
DIGITS = ROOT / "examples" / "digits"
SIDE = 64
WEIGHTS = DIGITS / "mobilevit_xxs_digits.safetensors"
LABELS = tuple("0123456789")


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: what was asked for is read from the browser."""


@dataclass(frozen=True)
class Site:
    """A folder that is served, and its address."""

    folder: Path
    address: str


def site_of(folder: Path, runtime: Path | None) -> Path:
    """The example page as npm install leaves it. runtime: the node_modules folder."""
    shutil.copytree(PAGE, folder, ignore=shutil.ignore_patterns("node_modules", "models"))
    if runtime is not None:
        (folder / "node_modules").symlink_to(runtime)
    return folder


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = site_of(tmp_path_factory.mktemp("web") / "site", tools.npm_packages(PAGE / "package.json"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder))
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield Site(folder, f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tools.chromium(), tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Opens an address; the test's pages are closed after it."""
    opened: list[Page] = []

    def open_one(address: str) -> Page:
        opened.append(browser.open(address))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture(scope="session")
def page(browser: Browser, site: Site) -> Page:
    """One page for tests that choose their files in it, one after the other; the runtime is loaded once."""
    opened = browser.open(site.address)
    opened.wait_until("document.body?.dataset.state === 'idle'")
    return opened


@dataclass(frozen=True)
class Digits:
    """calibration: a folder of pictures that the network learnt from. unseen: of others, a PNG file for each label."""

    calibration: Path
    unseen: dict[str, Path]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DIGITS))
        patch.delitem(sys.modules, "digits", raising=False)
        source = importlib.import_module("digits")
        try:
            training, test = source.read_digits()
        except MissingLibraryError as error:
            pytest.skip(str(error))
    learnt = source.Digits(training.pixels[::200], training.classes[::200])
    folder = tmp_path_factory.mktemp("digits")
    unseen = {label: folder / f"digit_{label}.png" for label in LABELS}
    for number, path in enumerate(unseen.values()):
        source.as_picture(test.pixels[test.classes == number][0], SIDE).save(path)
    return Digits(source.write_pictures(learnt, folder / "calibration"), unseen)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos in colour as PNG files, cut to the network's size."""
    folder = tmp_path_factory.mktemp("photos")
    found = []
    for path in sorted(PHOTOS.glob("*.jpg"))[:3]:
        found.append(folder / f"{path.stem}.png")
        with Image.open(path) as photo:
            photo.resize((SIDE, SIDE)).save(found[-1])
    return found


@pytest.fixture(scope="session")
def fp32_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network that reads digits as an .onnx file."""
    return exported("fp32", tmp_path_factory.mktemp("fp32"))


@pytest.fixture(scope="session")
def made_files(fp32_file: Path) -> dict[str, Path]:
    """The same network by precision, as far as a test has asked for it (onnx_file)."""
    return {"fp32": fp32_file}


@pytest.fixture
def onnx_file(
    made_files: dict[str, Path],
    precision: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The file of a test's precision."""
    if precision not in made_files:
        calibration = request.getfixturevalue("digits").calibration if precision in NEEDS_CALIBRATION else None
        made_files[precision] = exported(precision, tmp_path_factory.mktemp(precision), calibration=calibration)
    return made_files[precision]


def exported(precision: str, folder: Path, **options: object) -> Path:
    common = {"target": "onnx", "weights": WEIGHTS, "labels": LABELS, "image_size": SIDE, "output": folder}
    with quick_blame():
        (report,) = mvit_deploy.export(None, precision=precision, **common, **options)
    assert report.exit_code == 0
    return report.path


def pixels_of(path: Path) -> np.ndarray:
    """uint8 (height, width, 3), RGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
