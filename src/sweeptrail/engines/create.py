"""The engine that a sweep's settings name."""

from collections.abc import Callable

from sweeptrail.engines import Engine, Options
from sweeptrail.engines.processes.engine import Processes, auto_workers
from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.engines.ray.engine import Ray
from sweeptrail.engines.serial import Serial


def create(name: str, options: Options, server: ForkServer) -> Engine:
    """Return the engine of this name; the fork server, which may have been started already, is for `processes`."""
    makers: dict[str, Callable[[], Engine]] = {
        "serial": Serial,
        "ray": lambda: Ray(options),
        "processes": lambda: _processes(options, server),
    }
    return makers[name]()


def _processes(options: Options, server: ForkServer) -> Processes:
    workers = options.workers or auto_workers(options.threads)
    return Processes(workers, options.retries, server, run_timeout=options.run_timeout)
