"""Photographs the page of `fairlead serve` for its documentation: `make page-picture`. Needs Chromium."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from browser import Page, open_browser
from running_server import Running

import fairlead

BASE, ALIGNED = fairlead.engine("harbor:base-1m"), fairlead.engine("harbor:aligned-300k")
SERVED = {
    "base": BASE,
    "nudged": fairlead.decoder("nudging", base=BASE, nudger=ALIGNED, gamma=0.5, draft_tokens=4),
}
SIZE = {"width": 1080, "height": 660, "deviceScaleFactor": 1, "mobile": False}


def main(path: Path) -> None:
    """Ask two engines one question, point at a token, and write what is seen."""
    server = Running(SERVED)
    with tempfile.TemporaryDirectory() as profile:
        browser = open_browser(Path(profile))
        try:
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SIZE)
            browser.get(server.url)
            page = Page(browser)
            page.until(lambda: page.all(".pane option"), "the models")
            page.one("#compare").click()
            page.ask("what cargo does the brig zuwerlud carry?")
            page.peek(page.all(".answer:last-child .token.tone-3")[-1])
            path.write_bytes(browser.get_screenshot_as_png())
        finally:
            browser.quit()
            server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
