"""Delivers journals to the tracking server: at least once sent, exactly once in effect."""

import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import groupby, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from sweeptrail.errors import BusyError, DeliveryError, RefusedError
from sweeptrail.locks import locked
from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import IDENTITY_TAG
from sweeptrail.outbox.links import Where, resolve
from sweeptrail.outbox.mailbox import Mailbox
from sweeptrail.tracking import without_credentials

if TYPE_CHECKING:
    from sweeptrail.outbox.server import TrackingServer

LOCK = "courier.lock"
"""Held for the time of one delivery, so that two couriers do not create the same run."""

BATCHED = ("metrics", "params", "tags")
"""Kinds of records that share a request with their neighbours."""

UPLOAD_INTERVAL = 10.0
"""Seconds at least between two uploads of a file that is still growing."""


LAST = ("note", "version")
"""What is delivered one after the other when the rest is: a note links to all runs, a version competes with others."""

CONNECTIONS = 4
"""How many journals are delivered at a time to a server; a database is told one thing after the other."""


class Courier:
    """Delivers what the journals in one sweep's folder hold to one tracking server."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.refusals: list[str] = []
        """What the server will never accept, and why; the journal keeps it all the same."""
        self.folder = folder
        self._boxes: dict[Path, Mailbox] = {}
        self._runs: dict[str, Mailbox] = {}
        self._unanswered: set[str] = set()
        self._uploaded: dict[Path, float] = {}
        """When each growing file was last uploaded, by time.monotonic()."""
        self._is_new_sweep = False
        self.answered = float("inf")
        """When the server last accepted something, by time.monotonic; infinite until MLflow is loaded, tables made."""

    @cached_property
    def server(self) -> "TrackingServer":
        """The tracking server. The first use loads MLflow, which takes 2 s and 150 MB."""
        from sweeptrail.outbox.server import TrackingServer

        server = TrackingServer(self.uri)
        self.answered = time.monotonic()
        return server

    def where(self, identity: str) -> Where | None:
        """Return where a run is on the server, if it is there."""
        if identity not in self._runs:  # on a restart its opening was delivered long ago
            for path, box in list(self._boxes.items()):
                for entry, _ in journal.read(path)[:1]:
                    self._runs.setdefault(entry.get("identity", ""), box)
        found = self._runs.get(identity)
        return Where(found.experiment_id, found.run_id) if found and found.run_id else None

    def deliver(self) -> int:
        """Deliver whatever waits, the sweep's own journal first; return the number of records.

        Raises DeliveryError when the server does not answer; what it had accepted stays delivered.
        Raises BusyError while another courier delivers the same folder.
        """
        delivered = 0
        with locked(self.folder / LOCK) as was_free:
            if not was_free:
                raise BusyError(f"another process is delivering {self.folder}")
            path = self.folder / journal.FILE_NAME
            size = path.stat().st_size if path.exists() else 0  # what it says later may be of runs not listed here
            boxes = list(self._waiting_boxes())
            if boxes and boxes[0].run_id is None:  # the sweep's own, from which the others learn their parent's id
                delivered += self._empty(boxes[0], LAST)
            delivered += self._side_by_side([box for box in boxes if box.has_more()])
            for box in boxes:
                if box.has_more():
                    delivered += self._empty(box, up_to=size if box.path == path else None)
        return delivered

    def _side_by_side(self, boxes: list[Mailbox]) -> int:
        """Deliver several journals up to LAST; over the network at the same time, since each answer is late."""
        waiting, delivered, errors = deque(boxes), [0], list[BaseException]()

        def work() -> None:
            with suppress(IndexError):  # nothing waits any more
                while not errors:
                    box = waiting.popleft()
                    try:
                        delivered.append(self._empty(box, LAST))
                    except BaseException as error:
                        errors.append(error)

        # Daemons, unlike those of a pool: a request that hangs must not keep the process from ending.
        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(CONNECTIONS, len(boxes)))]
        if boxes and self.server.is_remote:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            work()
        if errors:
            raise errors[0]
        return sum(delivered)

    def waiting(self) -> int:
        """Return how many records are not delivered yet, without asking the server."""
        return sum(len(box.read()) for box in self._waiting_boxes())

    def _waiting_boxes(self) -> Iterator[Mailbox]:
        for folder in [self.folder, *sorted(path for path in self.folder.iterdir() if path.is_dir())]:
            path = folder / journal.FILE_NAME
            if path not in self._boxes and path.exists():
                self._boxes[path] = Mailbox(path, self.uri)
            if (box := self._boxes.get(path)) and box.refresh():
                self._is_new_sweep = False  # another courier was here, and may have created runs
            if (box := self._boxes.get(path)) and box.has_more():
                yield box

    def _empty(self, box: Mailbox, before: Collection[str] = (), up_to: int | None = None) -> int:
        """Deliver what waits, but nothing from the first record of certain kinds on, or beyond an offset."""
        try:
            return self._deliver_box(box, before, up_to)
        finally:
            box.save()

    def _deliver_box(self, box: Mailbox, before: Collection[str], up_to: int | None) -> int:
        records = [
            (entry, offset)
            for entry, offset in takewhile(lambda record: record[0]["kind"] not in before, box.read())
            if up_to is None or offset <= up_to
        ]
        for batched, group in groupby(self._needed(box, records), lambda record: record[0]["kind"] in BATCHED):
            if batched:
                batch = list(group)
                self._try_batch(box, [entry for entry, _ in batch])
                self._advance(box, batch[-1][1])
            else:
                for entry, offset in group:
                    self._try(box, entry)
                    self._advance(box, offset)
        for _, offset in records[-1:]:  # which may not have been needed
            self._advance(box, offset)
        return len(records)

    def _needed(self, box: Mailbox, records: list[tuple[journal.Entry, int]]) -> Iterator[tuple[journal.Entry, int]]:
        """Leave out what a later record replaces, and files that were uploaded a moment ago and still grow."""
        last = {_replaceable(entry): offset for entry, offset in records}
        for entry, offset in records:
            is_early = entry.get("growing") and self._was_just_uploaded(box.path.parent / entry["path"])
            replaceable = _replaceable(entry)
            if not replaceable or (last[replaceable] == offset and not is_early):
                yield entry, offset

    def _was_just_uploaded(self, path: Path) -> bool:
        return time.monotonic() - self._uploaded.get(path, float("-inf")) < UPLOAD_INTERVAL

    def _advance(self, box: Mailbox, offset: int) -> None:
        box.offset = offset
        self.answered = time.monotonic()

    def _try_batch(self, box: Mailbox, batch: list[journal.Entry]) -> None:
        """Send a batch; when something in it is refused, send its entries one by one."""
        try:
            self._log(box, batch)
        except RefusedError:
            for entry in batch:
                self._try(box, entry)

    def _try(self, box: Mailbox, entry: journal.Entry) -> None:
        try:
            self._carry_out(box, entry)
        except RefusedError as error:
            if entry["kind"] == "opened":  # without its run everything else would be refused as well: that waits
                raise DeliveryError(str(error)) from error
            self.refusals.append(f"{entry['kind']} of {box.path.parent.name}: {error}")

    def _carry_out(self, box: Mailbox, entry: journal.Entry) -> None:
        match entry["kind"]:
            case "opened":
                self._open(box, entry)
            case "artifact":
                self._upload(box, entry)
            case "link":
                where = self.where(entry["identity"])
                tags = {entry["tag"]: where.run_id if where else ""}
                self.server.log(_run_id(box), metrics=[], params={}, tags=tags)
            case "version":
                self.server.register(_run_id(box), _run_id(self._parent(entry["parent"])), entry)
            case "note":
                text = resolve(entry["text"], Where(box.experiment_id, _run_id(box)), self.where)
                self.server.log(_run_id(box), metrics=[], params={}, tags={"mlflow.note.content": text})
            case "dataset":
                self.server.add_dataset(_run_id(box), entry)
            case "closed":
                if box.may_have_twin and self.server.is_remote:
                    self.server.remove_twins(_run_id(box))
                self.server.close(_run_id(box), entry["status"], entry["time"])
            case kind if kind in BATCHED:
                self._log(box, [entry])
            case kind:
                raise RefusedError(f"no record of the kind {kind!r} is known to this version")

    def _upload(self, box: Mailbox, entry: journal.Entry) -> None:
        path = box.path.parent / entry["path"]
        if not entry.get("growing"):
            self.server.upload(_run_id(box), path, entry["to"])
            return
        # A copy: a file that grew during the request would be longer than the request has said. Where there is
        # no file any more, or no room for a copy, the upload at the end of the run must do.
        with suppress(OSError), tempfile.TemporaryDirectory(prefix="sweeptrail-") as folder:
            self.server.upload(_run_id(box), shutil.copyfile(path, Path(folder, path.name)), entry["to"])
            self._uploaded[path] = time.monotonic()

    def _log(self, box: Mailbox, batch: list[journal.Entry]) -> None:
        params = {
            name: value for entry in batch if entry["kind"] == "params" for name, value in entry["values"].items()
        }
        self.server.log(
            _run_id(box),
            metrics=[
                (name, value, entry["time"], entry["step"])
                for entry in batch
                if entry["kind"] == "metrics"
                for name, value in sorted(entry["values"].items(), key=_importance)
            ],
            params={name: value for name, value in params.items() if name not in box.existing_params},
            tags={name: value for entry in batch if entry["kind"] == "tags" for name, value in entry["values"].items()},
        )

    def _open(self, box: Mailbox, entry: journal.Entry) -> None:
        """Make the run exist and be RUNNING: one that is known, one to adopt, one found again, or a new one."""
        identity, adopt = entry["identity"], entry["adopt"]
        self._runs[identity] = box
        if box.run_id:
            self.server.reopen(box.run_id)
        elif adopt.get("uri") == without_credentials(self.uri):
            self._adopt(box, entry)
        elif entry["parent"]:
            parent = self._parent(entry["parent"])
            tags = {**entry["tags"], IDENTITY_TAG: identity, "mlflow.parentRunId": _run_id(parent)}
            self._find_or_create(box, entry, parent.experiment_id, tags, is_new=self._is_new_sweep)
        else:
            experiment_id = self.server.experiment_id(self._experiment(entry))
            tags = {**entry["tags"], IDENTITY_TAG: identity}
            self._find_or_create(box, entry, experiment_id, tags, is_new=False)

    def _experiment(self, entry: journal.Entry) -> Mapping[str, str]:
        """Return the experiment that is meant; on another server than the sweep's own its id means nothing."""
        own = without_credentials(self.uri)
        experiment: Mapping[str, str] = entry["experiment"]
        return experiment if experiment.get("uri", own) == own else {}

    def _adopt(self, box: Mailbox, entry: journal.Entry) -> None:
        run = self.server.get(entry["adopt"]["run_id"])
        if box.path.parent == self.folder:
            self._is_new_sweep = IDENTITY_TAG not in run.data.tags
        box.existing_params = frozenset(run.data.params)
        tags = {name: value for name, value in entry["tags"].items() if name not in run.data.tags}
        self.server.log(run.info.run_id, metrics=[], params={}, tags={**tags, IDENTITY_TAG: entry["identity"]})
        box.experiment_id, box.run_id = run.info.experiment_id, run.info.run_id

    def _find_or_create(
        self, box: Mailbox, entry: journal.Entry, experiment_id: str, tags: dict[str, str], *, is_new: bool
    ) -> None:
        """Creating is the one request that must not be repeated: a lost answer may hide a created run."""
        identity = entry["identity"]
        found = None
        if not is_new or identity in self._unanswered:
            found, is_new = self.server.find(experiment_id, identity), False
        if not entry["parent"]:
            self._is_new_sweep = found is None
        self._unanswered.add(identity)
        box.may_have_twin = not is_new
        box.run_id = found or self.server.create(experiment_id, name=entry["name"], time=entry["time"], tags=tags)
        self._unanswered.discard(identity)
        box.experiment_id = experiment_id

    def _parent(self, identity: str) -> Mailbox:
        """Return the mailbox of the sweep; on a restart its opening was delivered long ago."""
        if identity not in self._runs:
            path = self.folder / journal.FILE_NAME
            self._runs[identity] = self._boxes.setdefault(path, Mailbox(path, self.uri))
        return self._runs[identity]


def _importance(metric: tuple[str, float]) -> int:
    """Return the rank of a metric: MLflow's comparison of runs begins with the one that was logged first."""
    return {"validation_accuracy": 0, "accuracy": 1}.get(metric[0], 2)


def _replaceable(entry: journal.Entry) -> tuple[str, ...]:
    """Return what a later record of the same would replace: a file by its path and folder, or the note."""
    match entry["kind"]:
        case "artifact":
            return (entry["path"], entry["to"])
        case "note":
            return ("note",)
    return ()


def _run_id(box: Mailbox) -> str:
    if box.run_id is None:
        raise RefusedError("its run was refused before")
    return box.run_id
