"""A page in headless Chromium: light and dark, narrow and wide, with nothing asked for from outside."""

from collections.abc import Iterator

import pytest

from mvit_deploy.html import render
from tests.clients import browser, tools
from tests.clients.browser import Page
from tests.html.made import LINT, PIXEL, gallery, quantized, report, stage_errors, timing
from tests.html.test_page import CLAIMS

NARROW, WIDE = 360, 1280
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, for text
# Relative luminance and contrast as WCAG 2.2 defines them, over the nearest background that is not transparent.
CONTRASTS = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const over = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => rgb
    .map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || element.tagName === 'TITLE') continue;
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(getComputedStyle(e).backgroundColor);
    const style = getComputedStyle(element);
    const colour = element.namespaceURI.endsWith('svg') ? style.fill : style.color;
    const [a, b] = [luminance(over(chain)), luminance(over([...chain, colour]))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text]);
  }
  return found.sort((x, y) => x[0] - y[0])[0];
})()
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[browser.Browser, str]]:
    """A browser, and the address of a page with every part, and names that are long."""
    program = tools.chromium()
    folder = tmp_path_factory.mktemp("browser")
    failed = {"verdict": "mismatch", "reason": "cat.jpg: rel_max 0.4 > 0.0001 " * 9, "claims": CLAIMS}
    results = [
        report("out/mobilevit_xxs_segmentation_fp32.onnx", artifact={"lint": LINT}),
        report("out/" + "very_long_name_" * 6 + ".onnx", verdict="mismatch", verification=failed),
        quantized(),
        report("out/c.tflite", verdict="not_run", verification={"verdict": "not_run", "outputs": []}),
    ]
    paths = [str(each.path) for each in results]
    text = render(
        results,
        galleries=[gallery(paths[0]), gallery(paths[1], label="daisy", same=False)],
        stages=[stage_errors(path) for path in paths],
        timing=timing(paths[0]),
    )
    (folder / "page.html").write_text(text, encoding="utf-8")
    with browser.chromium(program, folder) as running:
        yield running, (folder / "page.html").as_uri()


@pytest.fixture
def page(shown: tuple[browser.Browser, str]) -> Page:
    """Opened anew, so that no test sees what another has done to it."""
    running, address = shown
    opened = running.open(address)
    opened.wait_until("document.readyState === 'complete' && document.querySelector('#claims') !== null")
    return opened


def test_nothing_is_asked_for_from_outside_and_nothing_is_complained_of(page: Page) -> None:
    asked = {url.split(":")[0] for url in page.requests()}

    assert asked <= {"file", "data"}
    assert [url for url in page.requests() if url.startswith("data:")] in ([], [PIXEL], [PIXEL] * 2)
    assert page.log() == []


def test_the_policy_lets_nothing_in_even_if_it_were_there(page: Page) -> None:
    """A picture from outside is refused by the page itself, before the network is asked."""
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png', id: 'late'}))")
    page.wait_until("document.querySelector('#late').complete")
    page.evaluate("document.querySelector('#late').remove()")

    assert any("Content Security Policy" in line for line in page.log())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_the_page_never_scrolls_sideways(page: Page, width: int, scheme: str) -> None:
    page.look(width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        "[...document.querySelectorAll('.scroll')].some((each) => each.scrollWidth > each.clientWidth)"
    )
    assert wide is True or width == WIDE


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(page: Page, scheme: str) -> None:
    page.look(width=WIDE, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    contrast, text = page.evaluate(CONTRASTS)

    assert contrast >= LEAST_CONTRAST, text


def test_dark_is_dark_and_light_is_light(page: Page) -> None:
    found = {}
    for scheme in ("light", "dark"):
        page.look(width=WIDE, scheme=scheme)
        found[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert found == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}


def test_charts_are_as_wide_as_they_can_be_read(page: Page) -> None:
    """On a phone a chart keeps its letters' size and is scrolled within its own frame."""
    page.look(width=NARROW, scheme="light")
    widths = page.evaluate("[...document.querySelectorAll('.chart svg[role=img]')].map((each) => each.clientWidth)")

    assert widths
    assert min(widths) >= 500
