"""Real patches for the tests of foundation models."""

from pathlib import Path

import pytest

from tests.real_patches import Patches, read_patches


@pytest.fixture(scope="session")
def patches(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Patches]:
    """Two real patches of 13 bands, and two of 12."""
    folder = tmp_path_factory.mktemp("real")
    return [read_patches(name, real_data, folder, count=2) for name in ("eurosat", "bigearthnet")]
