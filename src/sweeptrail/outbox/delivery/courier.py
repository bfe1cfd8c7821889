"""Delivers journals to the tracking server: at least once sent, exactly once in effect."""

import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sweeptrail.errors import BusyError, DeliveryError, RefusedError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.batching import LOGGED, Files, Record, Told, batches, replaceable, rounds
from sweeptrail.outbox.delivery.state import Mailbox
from sweeptrail.outbox.entries import IDENTITY_TAG
from sweeptrail.system.locks import locked
from sweeptrail.tracking.ui_links import Where, resolve
from sweeptrail.tracking.uri import without_credentials

if TYPE_CHECKING:
    from sweeptrail.tracking.client import TrackingServer

LOCK = "courier.lock"
"""Held for the time of one delivery, so that two couriers do not create the same run."""

UPLOAD_INTERVAL = 10.0
"""Seconds at least between two uploads of a file that is still growing."""

CONNECTIONS = 4
"""How many journals are delivered at a time to a server, and how many files of each; a database is told one by one."""

REQUESTS = 6
"""How many records are told at a time, a closing by two requests; MLflow's client warns from ten connections on."""

Answer = TypeVar("Answer")


class Courier:
    """Delivers what the journals in one sweep's folder hold to one tracking server."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.folder = folder
        self._boxes: dict[Path, Mailbox] = {}
        self._runs: dict[str, Mailbox] = {}
        self._unanswered: set[str] = set()
        self._refused: dict[tuple[Path, int, str], str] = {}
        self._uploaded: dict[Path, float] = {}
        """When each growing file was last uploaded, by time.monotonic()."""
        self._unconfirmed: dict[Path, Files] = {}
        """Of each journal the files that were uploaded in a round which then broke off."""
        self._taken: dict[Path, set[int]] = {}
        """Of each journal the offsets of the records that the server has taken in the round that is not over."""
        self._slots = threading.BoundedSemaphore(REQUESTS)
        self._is_new_sweep = False
        self.answered = float("inf")
        """When the server last accepted something, by time.monotonic; infinite until MLflow is loaded, tables made."""

    @cached_property
    def server(self) -> "TrackingServer":
        """The tracking server. The first use loads MLflow, which takes 2 s and 150 MB."""
        from sweeptrail.tracking.client import TrackingServer

        server = TrackingServer(self.uri)
        self.answered = time.monotonic()
        return server

    @property
    def refusals(self) -> list[str]:
        """What the server will never accept, and why; the journal keeps it all the same."""
        return [self._refused[record] for record in sorted(self._refused)]

    def where(self, identity: str) -> Where | None:
        """Return where a run is on the server, if it is there."""
        if identity not in self._runs:  # on a restart its opening was delivered long ago
            for path, box in list(self._boxes.items()):
                for entry, _ in journal.read(path)[:1]:
                    self._runs.setdefault(entry.get("identity", ""), box)
        found = self._runs.get(identity)
        return Where(found.experiment_id, found.run_id) if found and found.run_id else None

    def deliver(self) -> int:
        """Deliver whatever waits; return the number of records.

        Raises DeliveryError when the server does not answer; what it had confirmed stays delivered.
        Raises BusyError while another courier delivers the same folder.
        """
        with locked(self.folder / LOCK) as was_free:
            if not was_free:
                raise BusyError(f"another process is delivering {self.folder}")
            path = self.folder / journal.FILE_NAME
            own_end = path.stat().st_size if path.exists() else 0  # what it says later may be of runs not listed here
            boxes = list(self._waiting_boxes())
            ends = {box.path: box.path.stat().st_size for box in boxes} | {path: own_end}
            return sum(sum(self._side_by_side(tasks)) for tasks in self._stages(boxes, ends))

    def _stages(self, boxes: list[Mailbox], ends: Mapping[Path, int]) -> Iterator[list[Callable[[], int]]]:
        """Yield what is delivered side by side, each stage when the one before is over.

        The sweep's own run is there before the others, and they before a note links to them. It is closed when
        they are, beside the versions, which come one after the other because they compete.
        """
        own = [box for box in boxes if box.path.parent == self.folder]
        runs = [box for box in boxes if box.path.parent != self.folder]

        def deliveries(boxes: list[Mailbox], is_due: Callable[[str], bool]) -> list[Callable[[], int]]:
            waiting = [box for box in boxes if box.offset < ends[box.path]]
            return [partial(self._empty, box, ends[box.path], is_due) for box in waiting]

        for group in (own, runs):
            yield deliveries([box for box in group if not box.run_id], lambda kind: kind == "opened")
        yield deliveries(own, lambda kind: kind != "closed") + deliveries(runs, lambda kind: kind != "version")
        versions = deliveries(runs, lambda kind: True)
        yield [*deliveries(own, lambda kind: True), lambda: sum(deliver() for deliver in versions)]

    def _side_by_side(self, tasks: list[Callable[[], Answer]]) -> list[Answer]:
        """Return what the tasks return; over the network they run at the same time, since each answer is late."""
        waiting, answers, errors = deque(tasks), list[Answer](), list[BaseException]()

        def work() -> None:
            with suppress(IndexError):  # nothing waits any more
                while not errors:
                    task = waiting.popleft()
                    try:
                        answers.append(task())
                    except BaseException as error:
                        errors.append(error)

        if len(tasks) > 1 and self.server.is_remote:
            # Daemons, unlike those of a pool: a request that hangs must not keep the process from ending.
            threads = [threading.Thread(target=work, daemon=True) for _ in tasks[:CONNECTIONS]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            work()
        if errors:
            raise errors[0]
        return answers

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
                self._unconfirmed.pop(path, None)
            if (box := self._boxes.get(path)) and box.has_more():
                yield box

    def _empty(self, box: Mailbox, end: int, is_due: Callable[[str], bool]) -> int:
        """Deliver what waits up to an offset, round by round as long as the kind of the next is due."""
        records = [(entry, offset) for entry, offset in box.read() if offset <= end]
        due = list(takewhile(lambda told: is_due(told[0][0]["kind"]), rounds(records)))
        last = {replaceable(entry): offset for told in due for entry, offset in told}
        if not due:
            return 0
        try:
            for told in due:
                self._deliver_round(box, [record for record in told if self._is_needed(box, record, last)])
                box.offset = told[-1][1]
                self._taken.pop(box.path, None)
        finally:
            box.save()
        return sum(map(len, due))

    def _is_needed(self, box: Mailbox, record: Record, last: Mapping[tuple[str, ...], int]) -> bool:
        """Leave out what a later record replaces, and files that were uploaded a moment ago and still grow."""
        entry, offset = record
        is_early = entry.get("growing") and self._was_just_uploaded(box.path.parent / entry["path"])
        return not (replaced := replaceable(entry)) or (last[replaced] == offset and not is_early)

    def _was_just_uploaded(self, path: Path) -> bool:
        return time.monotonic() - self._uploaded.get(path, float("-inf")) < UPLOAD_INTERVAL

    def _deliver_round(self, box: Mailbox, records: list[Record]) -> None:
        """Tell a run of these records, its files beside the rest, and see that it has got them."""
        told = Told(files=self._unconfirmed.setdefault(box.path, {}))
        files = [record for record in records if record[0]["kind"] == "artifact" and not told.has_file(record)]
        others = [record for record in records if record[0]["kind"] != "artifact"]
        uploads = [partial(self._try, box, record, partial(self._upload, box, told, record)) for record in files]
        self._side_by_side([partial(self._tell, box, told, others), *uploads])
        del self._unconfirmed[box.path]  # what the server does not show now is sent again
        checks = [partial(self.server.confirm_files, _run_id(box), folder, told.sizes(folder)) for folder in told.files]
        if told.has_facts:
            checks.append(partial(self.server.confirm, _run_id(box), told))
        confirmation = ({"kind": "confirmation"}, box.offset)
        self._side_by_side([partial(self._try, box, confirmation, check) for check in checks])

    def _tell(self, box: Mailbox, told: Told, records: list[Record]) -> None:
        """Tell what is no file, one request after the other, so that a later tag replaces an earlier one."""
        for batch in batches(record for record in records if record[0]["kind"] in LOGGED):
            try:
                with self._slots:
                    self._log(box, told, [entry for entry, _ in batch])
                self._note_life(box, *(offset for _, offset in batch))
            except RefusedError:
                for record in batch:
                    self._try(box, record, partial(self._log, box, told, [record[0]]))
        for record in records:
            if record[0]["kind"] not in LOGGED:
                self._try(box, record, partial(self._carry_out, box, told, record[0]))

    def _try(self, box: Mailbox, record: Record, action: Callable[[], None]) -> None:
        """Do what a record asks for; that the server will never accept it is noted, and ends the matter."""
        entry, offset = record
        try:
            with self._slots:
                action()
        except RefusedError as error:
            if entry["kind"] == "opened":  # without its run everything else would be refused as well: that waits
                raise DeliveryError(str(error)) from error
            self._refused[box.path, offset, entry["kind"]] = f"{entry['kind']} of {box.path.parent.name}: {error}"
        self._note_life(box, offset)

    def _note_life(self, box: Mailbox, *offsets: int) -> None:
        """Note that the server lives when it has taken what it had not before.

        A server may take one record of a round again and again, and fail at another for ever.
        """
        taken = self._taken.setdefault(box.path, set())
        if not taken.issuperset(offsets):
            taken.update(offsets)
            self.answered = time.monotonic()

    def _carry_out(self, box: Mailbox, told: Told, entry: journal.Entry) -> None:
        match entry["kind"]:
            case "opened":
                self._open(box, entry)
            case "version":
                self.server.register(_run_id(box), _run_id(self._parent(entry["parent"])), entry)
            case "dataset":
                self.server.add_dataset(_run_id(box), entry)
                told.datasets.append(entry)
            case "closed":
                close = partial(self.server.close, _run_id(box), entry["status"], entry["time"])
                remove_twins = partial(self.server.remove_twins, _run_id(box))
                has_twins = box.may_have_twin and self.server.is_remote
                self._side_by_side([close, remove_twins] if has_twins else [close])
            case kind:
                raise RefusedError(f"no record of the kind {kind!r} is known to this version")

    def _log(self, box: Mailbox, told: Told, batch: list[journal.Entry]) -> None:
        """Tell what fits into one request."""
        metrics = [
            (name, value, entry["time"], entry["step"])
            for entry in batch
            if entry["kind"] == "metrics"
            for name, value in entry["values"].items()
        ]
        params = {
            name: value
            for entry in batch
            if entry["kind"] == "params"
            for name, value in entry["values"].items()
            if name not in box.existing_params
        }
        tags = {name: value for entry in batch for name, value in self._tags(box, entry).items()}
        self.server.log(_run_id(box), metrics=metrics, params=params, tags=tags)
        told.add_facts([(name, time, step) for name, _, time, step in metrics], params, tags)

    def _tags(self, box: Mailbox, entry: journal.Entry) -> Mapping[str, str]:
        values: Mapping[str, str] = {}
        match entry["kind"]:
            case "tags":
                values = entry["values"]
            case "link":
                where = self.where(entry["identity"])
                values = {entry["tag"]: where.run_id if where else ""}
            case "note":
                text = resolve(entry["text"], Where(box.experiment_id, _run_id(box)), self.where)
                values = {"mlflow.note.content": text}
        return values

    def _upload(self, box: Mailbox, told: Told, record: Record) -> None:
        entry, _ = record
        path = box.path.parent / entry["path"]
        if not entry.get("growing"):
            told.add_file(record, self.server.upload(_run_id(box), path, entry["to"]))
            return
        # A copy: a file that grew during the request would be longer than the request has said. Where there is
        # no file any more, or no room for a copy, the upload at the end of the run must do.
        with suppress(OSError), tempfile.TemporaryDirectory(prefix="sweeptrail-") as folder:
            copy = shutil.copyfile(path, Path(folder, path.name))
            told.add_file(record, self.server.upload(_run_id(box), copy, entry["to"]))
            self._uploaded[path] = time.monotonic()

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
        tags[IDENTITY_TAG] = entry["identity"]
        self.server.log(run.info.run_id, metrics=[], params={}, tags=tags)
        self.server.confirm(run.info.run_id, Told(tags=tags))
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


def _run_id(box: Mailbox) -> str:
    if box.run_id is None:
        raise RefusedError("its run was refused before")
    return box.run_id
