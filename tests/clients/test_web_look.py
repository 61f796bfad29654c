"""The example page for everyone: by keyboard, by dropping files, light and dark, narrow and wide."""

import re
from pathlib import Path

import pytest

from tests.clients.browser import Page
from tests.clients.conftest import Site
from tests.clients.pages import Opener, choose, result_of, seen, served

TAB, ENTER = ("Tab", 9), ("Enter", 13)
LEAST_CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3
READ_ON = [("ink", "ground"), ("ink", "card"), ("quiet", "ground"), ("quiet", "card"), ("ink", "bar"),
           ("on-accent", "accent"), ("error", "error-ground")]  # fmt: skip


def test_everything_is_reached_and_run_by_keyboard(page: Page, fp32_file: Path, photos: list[Path]) -> None:
    seen(page, fp32_file, photos[0])
    page.call("Page.bringToFront")
    page.evaluate("document.activeElement.blur()")
    order = []
    for _ in range(3):
        page.press(*TAB)
        order.append(page.evaluate("document.activeElement.id"))
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.evaluate("document.body.dataset.state = 'asked'")
    page.press(*ENTER)

    assert order == ["model", "photo", "run"]
    assert outline == "solid"
    assert result_of(page)["image"] == photos[0].name


def test_a_model_and_a_photo_can_be_dropped_at_once(
    open_page: Opener, site: Site, fp32_file: Path, photos: list[Path]
) -> None:
    page = open_page(site.address)
    page.wait_until("document.body?.dataset.state === 'idle'")
    names = [served(site, path) for path in (photos[1], fp32_file)]

    page.evaluate(f"""(async () => {{
      const data = new DataTransfer();
      for (const name of {names}) data.items.add(new File([await (await fetch(name)).blob()], name));
      document.body.dispatchEvent(new DragEvent("drop", {{ dataTransfer: data, bubbles: true, cancelable: true }}));
    }})()""")

    found = result_of(page)
    assert (found["model"], found["image"]) == (fp32_file.name, photos[1].name)


def test_without_run_in_the_address_the_button_waits(
    open_page: Opener, site: Site, fp32_file: Path, photos: list[Path]
) -> None:
    page = open_page(f"{site.address}?model={served(site, fp32_file)}&image={served(site, photos[0])}")
    page.wait_until("document.getElementById('status')?.textContent === 'Ready to run.'")
    assert page.evaluate("document.body.dataset.result") is None

    page.evaluate("document.getElementById('run').click()")

    assert result_of(page)["image"] == photos[0].name


def test_the_button_is_off_until_there_is_something_to_run(open_page: Opener, site: Site, fp32_file: Path) -> None:
    page = open_page(site.address)
    page.wait_until("document.body?.dataset.state === 'idle'")

    choose(page, "#model", fp32_file)

    assert page.evaluate("document.getElementById('run').disabled")
    assert page.evaluate("document.getElementById('status').textContent").startswith("Choose a photo")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(page: Page, scheme: str) -> None:
    page.look(width=1200, scheme=scheme)
    colors = {
        name: page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')")
        for name in {each for pair in READ_ON for each in pair}
    }

    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(as_hex(ground)) > 0.5) == (scheme == "light")
    for text, behind in READ_ON:
        assert contrast(colors[text], colors[behind]) >= LEAST_CONTRAST, (text, behind)


@pytest.mark.parametrize("width", [320, 400, 1200])
def test_nothing_is_wider_than_the_page(page: Page, fp32_file: Path, photos: list[Path], width: int) -> None:
    seen(page, fp32_file, photos[0])
    page.look(width=width, scheme="light")

    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("first", "second", "expected"), [("#ffffff", "#000000", 21.0), ("#777777", "#ffffff", 4.48)])
def test_contrast_is_wcags(first: str, second: str, expected: float) -> None:
    """The two examples that everyone quotes: black on white, and the grey that just fails."""
    assert contrast(first, second) == pytest.approx(expected, abs=0.01)


def as_hex(color: str) -> str:
    """#rrggbb of rgb(r, g, b)."""
    return "#" + "".join(f"{int(value):02x}" for value in re.findall(r"\d+", color)[:3])


def contrast(first: str, second: str) -> float:
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
