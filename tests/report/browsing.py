"""A real headless Chromium, driven by Selenium: what tests of pages and benchmarks/page_response.py ask it."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)


def opened(folder: Path) -> Any:
    """A browser whose profile lies in `folder`."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ARGUMENTS.split():
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={folder}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))


def look(browser: Any, width: int, scheme: str) -> None:
    """A window of `width` CSS pixels, light or dark."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def show(browser: Any, path: Path, width: int = 1440, scheme: str = "light") -> None:
    """Opens a page in a window of `width` CSS pixels, with the logs empty before."""
    look(browser, width, scheme)
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(path.as_uri())
    wait_for(lambda: browser.execute_script("return document.readyState") == "complete")


def wait_for(condition: Callable[[], Any]) -> Any:
    for _ in range(200):
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("waited 10 s in vain")


def requests(browser: Any) -> list[str]:
    """What the page asked for beyond itself, the data in it included."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("file:", "data:", "blob:", "about:"))]


def sideways(browser: Any) -> int:
    """CSS pixels by which the page is wider than its window."""
    return int(browser.execute_script("const e = document.documentElement; return e.scrollWidth - e.clientWidth"))


def computed(browser: Any, selector: str, name: str) -> str:
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return str(browser.execute_script(script, selector, name))


def column(browser: Any, table: str, key: str) -> list[str]:
    return list(
        browser.execute_script(
            "const t = document.getElementById(arguments[0]);"
            "const i = t.querySelector(`th[data-key=${arguments[1]}]`).cellIndex;"
            "return [...t.tBodies[0].rows].map((row) => row.cells[i].dataset.value)",
            table,
            key,
        )
    )


def click(browser: Any, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def too_wide(browser: Any) -> list[str]:
    """Elements that reach beyond the window and do not scroll by themselves."""
    return list(
        browser.execute_script(
            "return [...document.querySelectorAll('main *, header *')].filter((e) => !e.closest('.scroll, svg')"
            " && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
        )
    )


def undrawn(browser: Any) -> list[str]:
    """Figures without a drawing in them."""
    script = (
        "return [...document.querySelectorAll('.plot')].filter((p) => !p.querySelector('.main-svg')).map((p) => p.id)"
    )
    return list(browser.execute_script(script))


def downloaded(browser: Any, folder: Path, table: str) -> list[dict[str, str]]:
    """The rows of the CSV file that the button of a table gives."""
    import csv

    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    click(browser, f"button[data-do=csv][data-table={table}]")
    path = folder / f"{table}.csv"
    wait_for(lambda: path.exists() and path.stat().st_size)  # it is there a moment before its text
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
