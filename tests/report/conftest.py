"""One headless Chromium for all tests of pages."""

from collections.abc import Iterator
from typing import Any

import pytest

from .browsing import CHROMIUM, DRIVER, opened


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("selenium", reason="selenium is not installed: pip install selenium")
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip(f"no {CHROMIUM} or {DRIVER}: apt-get install chromium chromium-driver")
    driver = opened(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()
