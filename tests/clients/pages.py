"""The example page as a person uses it: files chosen, and what comes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from tests.clients.browser import Page
from tests.clients.conftest import Site

SETTLED = "['done', 'error'].includes(document.body?.dataset.state)"
Opener = Callable[[str], Page]
Result = dict[str, object]  # what the page says: top, probabilities, isResampled, … or error


def result_of(page: Page) -> Result:
    page.wait_until(SETTLED)
    return json.loads(page.evaluate("document.body.dataset.result"))


def choose(page: Page, selector: str, path: Path) -> None:
    """A file as a person chooses it, until the page has dealt with it."""
    page.evaluate("document.body.dataset.state = 'asked'")
    page.choose_file(selector, path)
    page.wait_until("!['asked', 'busy'].includes(document.body.dataset.state)")


def seen(page: Page, model: Path, picture: Path) -> Result:
    choose(page, "#model", model)
    choose(page, "#photo", picture)
    return result_of(page)


def served(site: Site, path: Path) -> str:
    """A file's address on the site."""
    target = site.folder / path.name
    if not target.exists():
        target.symlink_to(path)
    return quote(path.name)
