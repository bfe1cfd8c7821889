"""Starts the process that delivers an outbox, where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import sweeptrail
from sweeptrail.outbox.machine.place import LOCK, LOG, Place
from sweeptrail.system.locks import is_locked

URI = "SWEEPTRAIL_COURIER_URI"
"""The server's address, with its password; on the command line everybody on the machine would read it."""

OF_THE_RUN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI")
"""What says where this process logs to, and is no business of the one that delivers."""

COURIER = "sweeptrail.outbox.machine.courier_process"
IN_THE_BACKGROUND = ("/bin/sh", "-c", '"$@" &', "sh")


def see_to_courier(place: Place) -> None:
    """Start the process that delivers an outbox, unless it is there; where that fails, `sweeptrail sync` delivers."""
    if is_locked(place.folder / LOCK):
        return
    environment = {name: value for name, value in os.environ.items() if name not in OF_THE_RUN}
    source = str(Path(sweeptrail.__file__).parent.parent)
    environment |= {
        URI: place.uri,
        "MLFLOW_TRACKING_URI": place.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONSAFEPATH": "1",  # nothing is imported from the outbox
        "PYTHONPATH": os.pathsep.join(filter(None, (source, environment.get("PYTHONPATH", "")))),
    }
    try:
        with (place.folder / LOG).open("ab") as log:
            # In a session of its own: neither Ctrl-C nor the end of the terminal is meant for it.
            # Nor is it a child: whoever waits for any child of this process, or ends all of them, does not mean it.
            subprocess.run(
                [*IN_THE_BACKGROUND, sys.executable, "-m", COURIER, str(place.folder)],
                env=environment,
                cwd=place.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                check=False,
            )
    except OSError:
        return
