"""Pictures of a running `make demo` for the documents: the app at its URL and the pull request's page, in Chromium.

    .venv/bin/python tools/take_pictures.py NAME [CHROMIUM]

NAME is part of the files' names in docs/images/demo. CHROMIUM: the browser's executable, when playwright brought none.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from catalyst.local.demo import commands
from catalyst.local.demo.forge import page
from catalyst.local.node import layout

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images" / "demo"


def main(name: str, chromium: str | None) -> None:
    scene = commands.current()
    FOLDER.mkdir(parents=True, exist_ok=True)
    visitor = scene.visitor()
    places = {"pull-request": page(scene.story.repository, scene.story.number)}
    if visitor is not None:
        places["app"] = visitor.url
    # This machine's resolver may not know *.localhost; a browser does.
    rules = f"--host-resolver-rules=MAP github.catalyst.test {layout.ADDRESS}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", rules])
        context = browser.new_context(ignore_https_errors=True, viewport={"width": 900, "height": 640})
        for what, url in places.items():
            tab = context.new_page()
            tab.goto(url)
            for fold in tab.locator("details").all():
                fold.evaluate("each => each.open = true")
            tab.screenshot(path=FOLDER / f"{name}-{what}.png", full_page=what != "app")
            print(f"{url} → {FOLDER / f'{name}-{what}.png'}")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else shutil.which("chromium"))
