"""Shared fixtures: where the measured data lies, and a few models and devices made by hand."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("roofline", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("roofline")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The measured records of ../shared/data; tests that need them skip where the folder is missing."""
    folder = os.environ.get("ROOFLINE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ROOFLINE_DATA names no folder: measured records are not at hand")
    return Path(folder)
