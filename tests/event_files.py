"""Event files that tests write, and runs on a store that have them."""

from pathlib import Path

from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

EVENTS = "events.out.tfevents.1"


def write_events(path: Path, *steps: int) -> Path:
    """Add the scalar `Loss` at these steps to an event file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        writer = RecordWriter(file)
        for step in steps:
            value = Summary.Value(tag="Loss", simple_value=1 / step)
            event = Event(step=step, wall_time=step, summary=Summary(value=[value]))
            writer.write(event.SerializeToString())
    return path


def steps_in(folder: Path) -> list[int]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [item.step for item in events.Scalars("Loss")]


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and the time of the last change of each file."""
    found = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (stat.st_ino, stat.st_mtime_ns) for path, stat in found}


def open_run(client: MlflowClient, name: str, parent: str = "", **tags: str) -> str:
    more = {"mlflow.parentRunId": parent} if parent else {}
    return str(client.create_run("0", run_name=name, tags={**tags, **more}).info.run_id)
