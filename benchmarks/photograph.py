"""A page as a reader sees it, in a headless Chrome or Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

REST = 1500  # milliseconds until nothing moves any more


def photograph(page: str, size: tuple[int, int], file: Path, script: str = "") -> None:
    """Writes a page as a picture; needs selenium (the extra `dev`).

    Args:
        page: HTML.
        size: Width and height of the window in pixels.
        file: A name that ends in ``.png``.
        script: JavaScript that is run in the page before.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    driver = webdriver.ChromeService(shutil.which("chromedriver"))  # where there is none, selenium fetches one
    with TemporaryDirectory() as folder, webdriver.Chrome(options, driver) as browser:
        width, height = size
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        html = Path(folder) / "page.html"
        html.write_text(page, encoding="utf-8")
        browser.get(html.as_uri())
        browser.execute_async_script(f"setTimeout(arguments[0], {REST})")
        browser.execute_script(script)
        browser.execute_async_script(f"setTimeout(arguments[0], {REST})")
        browser.save_screenshot(str(file))
