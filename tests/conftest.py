"""What the tests of several files share: how many faults to try, and a tracking server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.outboxes import Outboxes, outboxes
from tests.proxy import Proxy, proxy_before
from tests.server import Server, mlflow_server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", type=int, default=3, help="sweeps that are killed five times each [default: 3]")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault_seed" in metafunc.fixturenames:
        metafunc.parametrize("fault_seed", range(metafunc.config.getoption("--faults")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tracking" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    # The groups that stay in one process take minutes: begun last, they would leave the other one without work.
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session", autouse=True)
def _nobodys_outboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep away the outboxes of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))
        yield


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server that is used by one test after the other; what one of them kills it starts again."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def proxy(tracking: Server) -> Iterator[Proxy]:
    """Stand before the server, at an address of the test's own."""
    with proxy_before(tracking.port, 0) as found:
        yield found


@pytest.fixture
def box(tmp_path: Path, proxy: Proxy) -> Iterator[Outboxes]:
    """Have an outbox of the test's own for the server behind the proxy."""
    with outboxes(tmp_path, proxy.uri) as found:
        yield found
