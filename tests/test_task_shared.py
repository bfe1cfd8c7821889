"""Data are made once on each machine, held once, and are the same for every run."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sweeptrail
from sweeptrail.errors import UsageError
from sweeptrail.outbox import sweep_folder
from sweeptrail.sweeps.run import Outcome
from sweeptrail.system.shared_arrays import _descriptors, pack, unpack
from sweeptrail.tasks.shared import MOST, SMALLEST, digest_of, for_one_run, shared_values
from tests.commands import start
from tests.engine_works import mapped_kilobytes

LARGE = np.arange(SMALLEST, dtype=np.float32)


def seen(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as a run in another process sees them."""
    with pack(shared_values(values, "shared")) as descriptors:
        received = [os.dup(each) for each in descriptors]
        try:
            return dict(for_one_run(unpack(received, adopt=True)))
        finally:
            os.close(received[0])


class Vocabulary:
    def __init__(self, words: list[str]) -> None:
        self.words = words


def test_values_of_any_kind_arrive_arrays_in_shared_memory_and_tensors_as_arrays() -> None:
    masked = np.ma.masked_array(np.arange(3), mask=[False, True, False])
    given = {
        "large": LARGE,
        "transposed": LARGE.reshape(256, -1).T,
        "tensor": torch.from_numpy(LARGE) * torch.tensor(2.0, requires_grad=True),
        "splits": {"train": (LARGE + 1, LARGE + 2), "names": ["a", "b"]},
        "small": np.arange(3),
        "empty": np.zeros((0, 28, 28), np.uint8),
        "scalar": np.float64(0.5),
        "masked": masked,
        "text": "ünicode",
        "none": None,
        "set": {1, 2},
        "vocabulary": Vocabulary(["a"]),
    }
    shared = shared_values(given, "shared")
    for array in (shared["large"], shared["tensor"], *shared["splits"]["train"]):
        assert id(array) in _descriptors
    found = seen(given)
    np.testing.assert_array_equal(found["large"], LARGE)
    np.testing.assert_array_equal(found["transposed"], LARGE.reshape(256, -1).T)
    np.testing.assert_array_equal(found["tensor"], LARGE * 2)
    np.testing.assert_array_equal(found["splits"]["train"][1], LARGE + 2)
    assert found["splits"]["names"] == ["a", "b"]
    assert found["small"].tolist() == [0, 1, 2]
    assert (found["empty"].shape, found["empty"].dtype) == ((0, 28, 28), np.uint8)
    assert found["masked"].mask.tolist() == [False, True, False]
    assert (found["scalar"], found["text"], found["none"], found["set"]) == (0.5, "ünicode", None, {1, 2})
    assert found["vocabulary"].words == ["a"]


def test_what_one_run_does_to_the_values_does_not_reach_the_next() -> None:
    given = {"large": LARGE, "small": np.arange(3), "list": [LARGE, [1]], "vocabulary": Vocabulary(["a"])}
    shared = shared_values(given, "shared")
    first = for_one_run(shared)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for array in (first["large"], first["small"], first["list"][0]):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1
            torch.from_numpy(array).fill_(7)  # which does not ask
    first["list"][1].append(2)
    first["list"].append(3)
    first["vocabulary"].words.append("b")
    with pytest.raises(TypeError):
        first["new"] = 1  # type: ignore[index]  # the claim
    second = for_one_run(shared)
    np.testing.assert_array_equal(second["large"], LARGE)
    np.testing.assert_array_equal(second["list"][0], LARGE)
    assert (second["small"].tolist(), second["list"][1], second["vocabulary"].words) == ([0, 1, 2], [1], ["a"])
    assert len(second["list"]) == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([LARGE], "shared: expected a mapping of names to arrays, got a list"),
        (LARGE, "shared: expected a mapping of names to arrays, got a ndarray"),
        (None, "shared: expected a mapping of names to arrays, got a NoneType"),
        ({1: LARGE}, "shared: expected a mapping of names to arrays, got a dict"),
        ({"objects": np.array([{}, {}])}, "shared: objects cannot be sent to other processes: ValueError: expected an"),
        ({"f": lambda: None}, "shared: f cannot be sent to other processes: "),
        ({"file": sys.stdout}, "shared: file cannot be sent to other processes: "),
        ({"half": torch.zeros(2, dtype=torch.bfloat16)}, "shared: half cannot be sent to other processes: "),
        ({"sparse": torch.zeros(2, 2).to_sparse()}, "shared: sparse cannot be sent to other processes: "),
        ({"many": [LARGE] * 200, "more": [LARGE] * 100}, f"expected at most {MOST} large arrays, got 300"),
    ],
)
def test_what_cannot_be_shared_is_named_in_one_line(values: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        shared_values(values, "shared")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


DIGEST = """
import sys, numpy as np
from sweeptrail.tasks.shared import digest_of, shared_values
print(digest_of(shared_values({"a": np.arange(5), "words": {"x", "y", "z"}, "d": {"k": (1, "v"), "l": None}}, "")))
"""


def test_the_digest_is_the_same_in_every_process_and_another_for_other_values() -> None:
    digests = [start(sys.executable, "-c", DIGEST, cwd=Path.cwd(), PYTHONHASHSEED=seed).stdout for seed in ("1", "2")]
    assert digests[0] == digests[1]
    assert len(digests[0].strip()) == 16
    others: list[dict[str, Any]] = [
        {"a": np.arange(4)}, {"a": np.arange(4.0)}, {"a": np.arange(4).reshape(2, 2)}, {"b": np.arange(4)},
        {"a": np.arange(5)}, {"a": [0, 1, 2, 3]}, {"a": (0, 1, 2, 3)}, {"a": "0"}, {"a": 0}, {"a": None}, {"a": False},
        {"a": {"a": 0}}, {"a": [[0], 1]}, {"a": [[0, 1]]}, {"a": Vocabulary(["a"])}, {"a": Vocabulary(["b"])},
        {"a": {1, 2}}, {"a": {1, 3}}, {"a": np.zeros((0, 1))}, {"a": np.zeros((0, 2))},
    ]  # fmt: skip
    found = [digest_of(shared_values(each, "")) for each in others]
    assert len(set(found)) == len(others)
    assert found == [digest_of(shared_values(each, "")) for each in others]
    assert digest_of({}) == ""


TASK = """
import os, warnings
import numpy as np

def prepare():
    with open("calls", "a") as file:
        file.write("x")
    images = np.random.rand(4 << 20)            # 32 MB, drawn by the global generator
    return {"images": images, "labels": ["cat", "dog"], "split": (images[: 1 << 17], 3)}

def train(manager, *, lr: float = 0.1):
    import torch
    from tests.engine_works import mapped_kilobytes

    images = manager.shared["images"]
    labels = manager.shared["labels"]
    total = float(images.sum())
    memory = mapped_kilobytes()
    try:
        images[0] = 5
    except ValueError:
        manager.log(is_read_only=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "(?!The given NumPy array is not writable)")
        torch.from_numpy(images[:10]).zero_()
    labels.append("bird")
    manager.log(total=total, labels=len(labels), pid=os.getpid(), **memory)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def command(here: Path, module: str, *words: str) -> Any:
    root = Path(__file__).parent.parent
    options = ["--goal", "max:total", "--register", "none", "--report", "false", *words]
    paths = f"{root / 'src'}:{root}"
    return start(sys.executable, "-m", "sweeptrail", "sweep", *module.split(), *options, cwd=here, PYTHONPATH=paths)


def rows_of(here: Path) -> list[dict[str, Any]]:
    """Return what the runs of the newest sweep have measured at their ends."""
    from sweeptrail.outbox.history import read_history

    newest = max((here / "runs").iterdir())
    runs = sweep_folder.read(newest).runs
    return [dict(read_history(newest / run.name, run.index).metrics) for run in runs]


@pytest.mark.slow
def test_prepare_is_called_once_for_all_workers_and_runs_and_gives_the_same_when_the_sweep_goes_on(here: Path) -> None:
    (here / "own.py").write_text(TASK)
    first = command(here, "own:train lr=0.1,0.2,0.3,0.4", "--workers", "2")
    assert first.returncode == 0, first.stderr
    assert "warn" not in first.stderr.lower()
    assert (here / "calls").read_text() == "x"
    rows = rows_of(here)
    assert len({row["pid"] for row in rows}) == 2
    assert [row["is_read_only"] for row in rows] == [1] * 4
    assert [row["labels"] for row in rows] == [3] * 4
    assert len({row["total"] for row in rows}) == 1
    assert all(row["Pss"] < row["Rss"] * 0.6 for row in rows[-2:])
    again = command(here, "own:train lr=0.5", "--resume", "latest")
    assert again.returncode == 0, again.stderr
    assert "changed" not in again.stderr
    assert (here / "calls").read_text() == "xx"
    assert len(rows_of(here)) == 5
    assert {row["total"] for row in rows_of(here)} == {rows[0]["total"]}


@pytest.mark.slow
def test_with_other_data_a_sweep_that_goes_on_runs_anew_and_says_so(here: Path) -> None:
    (here / "own.py").write_text(TASK)
    assert command(here, "own:train lr=0.1", "--engine", "serial").returncode == 0
    before = rows_of(here)
    (here / "own.py").write_text(TASK.replace("images = np.random.rand", "images = 1 + np.random.rand"))
    other = command(here, "own:train lr=0.1", "--engine", "serial", "--resume", "latest")
    assert other.returncode == 0, other.stderr
    assert "sweeptrail: the data have changed (digest " in other.stderr
    assert "their runs are carried out anew" in other.stderr
    assert (here / "calls").read_text() == "xx"
    assert rows_of(here)[0]["total"] > before[0]["total"] + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no such file:\\n data.csv')", "prepare() failed: ValueError: no such file: data.csv"),
        ("import sys; sys.exit(0)", "prepare() failed: SystemExit: 0"),
        ("import os; os._exit(7)", "the process that imports own ended (7)"),
        ("return 5", "prepare(): expected a mapping of names to arrays, got a int"),
        ("pass", "prepare(): expected a mapping of names to arrays, got a NoneType"),
        ("return {'f': lambda: 0}", "prepare(): f cannot be sent to other processes"),
    ],
)
def test_a_prepare_that_fails_is_one_clear_line_and_no_run(here: Path, body: str, said: str) -> None:
    (here / "own.py").write_text(f"def prepare():\n    {body}\n\ndef train(manager):\n    manager.log(total=1)\n")
    done = command(here, "own:train")
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if said in line]
    assert "task own:train" in line
    frames = [line for line in done.stderr.splitlines() if line.lstrip().startswith('File "') and "sweeptrail" in line]
    assert all("tasks/host.py" in frame for frame in frames)
    assert not (here / "mlflow.db").exists()


def look(manager: Any, *, lr: float = 0.1) -> None:
    values = np.asarray(manager.shared["images"])
    torch.from_numpy(manager.shared["images"]).mul_(2)
    manager.log(total=float(values.sum()), lr_seen=lr, **mapped_kilobytes())


def sweep(shared: Any, **settings: Any) -> Outcome:
    outcome: Outcome = sweeptrail.sweep(
        look, {"lr": [0.1, 0.2]}, goal="max:total", shared=shared, report=False, register="none", **settings
    )
    return outcome


@pytest.mark.slow
def test_arrays_that_are_handed_in_are_seen_by_every_run_as_they_were(here: Path) -> None:
    ones = np.ones(1 << 20)
    found = sweep({"images": torch.from_numpy(ones)}, engine="serial")
    # Each run has doubled what it saw, and logged that.
    assert [result.metrics["total"] for result in found.results] == [2 * len(ones)] * 2
    assert ones.sum() == len(ones)
    same = sweep({"images": ones}, engine="serial", resume=found.folder)
    assert [round(each.time, 3) for each in same.results] == [round(each.time, 3) for each in found.results]
    other = sweep({"images": ones * 3}, engine="serial", resume=found.folder)
    assert [result.metrics["total"] for result in other.results] == [6 * len(ones)] * 2
    assert [result.index for result in other.results] == [3, 4]
    with pytest.raises(UsageError, match="shared and valid need a function, got the name 'own:train'"):
        sweeptrail.sweep("own:train", shared={"images": ones})


@pytest.mark.heavy
@pytest.mark.slow
def test_on_ray_prepare_is_called_once_too(here: Path) -> None:
    (here / "own.py").write_text(
        TASK.replace("    from tests.engine_works import mapped_kilobytes\n", "").replace("mapped_kilobytes()", "{}")
    )
    done = command(here, "own:train lr=0.1,0.2,0.3,0.4", "--engine", "ray")
    assert done.returncode == 0, done.stderr
    assert (here / "calls").read_text() == "x"
    rows = rows_of(here)
    assert [row["is_read_only"] for row in rows] == [1] * 4
    assert [row["labels"] for row in rows] == [3] * 4
    assert len({row["total"] for row in rows}) == 1
