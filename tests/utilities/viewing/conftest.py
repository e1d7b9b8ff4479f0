"""Fixtures that several tests of this folder share."""

import pytest

from tests.utilities.viewing.npm_registry import Registry


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry that nothing is installed from yet."""
    return Registry(tmp_path, monkeypatch)
