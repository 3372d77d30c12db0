from collections.abc import Iterator

import pytest

from tests.faults.stages import Begun, preloaded


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    """Folders in which stages begin, and processes that have imported everything."""
    with preloaded():
        yield Begun(tmp_path_factory.mktemp("begun"))
