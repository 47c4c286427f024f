"""Pages in Chromium: collected only where playwright is installed, as ``make test-browser`` has it.

There the browser has to be, too: without one these tests fail.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]

DESKTOP, PHONE = {"width": 1400, "height": 1000}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    assert program, "there is no chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def opened(browser):
    """``with opened(path, …) as page``: a file in the browser, which complains of nothing and asks for nothing else."""

    @contextmanager
    def open_page(path, fragment: str = "", **options) -> Iterator:
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        page = context.new_page()
        complaints, asked = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri() + fragment)
        yield page
        assert complaints == []
        assert [url.partition("#")[0] for url in asked if not url.startswith("data:")] == [path.as_uri()]
        context.close()

    return open_page
