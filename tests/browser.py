"""Chromium without a window, and what a person does and sees on the page that is served."""

from __future__ import annotations

import shutil
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --hide-scrollbars --force-prefers-reduced-motion --window-size=1200,900"
)


def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browser_missing() -> bool:
    """Tell whether there is no Chromium here, or no chromedriver."""
    return not (_chromium() and shutil.which("chromedriver"))


def open_browser(profile: Path) -> webdriver.Chrome:
    """Start Chromium with a profile of its own; its console is kept."""
    options = webdriver.ChromeOptions()
    options.binary_location = _chromium()
    for option in [*OPTIONS.split(), f"--user-data-dir={profile}"]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


class Page:
    """What a person does and sees."""

    def __init__(self, browser):
        self.browser = browser

    def all(self, selector, within=None):
        return (within or self.browser).find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector, within=None):
        return self.until(lambda: next((e for e in self.all(selector, within) if e.is_displayed()), None), selector)

    def until(self, holds, what="it"):
        return WebDriverWait(self.browser, 60, 0.05).until(lambda _: holds(), f"waited for {what}")

    def choose(self, pane, model):
        Select(self.all(".pane select[name=model]")[pane]).select_by_visible_text(model)

    def set(self, pane, label, value):
        """Fill a field of the settings in, or switch it."""
        box = self.all(".pane")[pane]
        if not self.one("details", box).get_attribute("open"):
            self.one("summary", box).click()
        (field,) = [e for e in self.all("label", box) if e.text.split("\n")[0].strip().lower() == label]
        field = self.one("input, textarea", field)
        if isinstance(value, bool):
            if field.is_selected() != value:
                field.click()
            return
        field.clear()
        field.send_keys(str(value))

    def send(self, question):
        self.one("#question").send_keys(question + Keys.ENTER)

    def ask(self, question):
        """Send a question and return the texts of the answers to it."""
        self.send(question)
        self.until(lambda: self.all("#send")[0].is_displayed(), "the end of the answers")
        return [said.get_property("textContent") for said in self.all(".turn:last-child .said")]

    def peek(self, token):
        ActionChains(self.browser).move_to_element(token).perform()
        return self.one("#peek")
