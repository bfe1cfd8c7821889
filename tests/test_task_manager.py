"""What a task's manager promises: which epochs there are, what is kept, what is a metric."""

import math
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sweeptrail.outbox.entries import Closed, EpochMetrics, FinalMetrics, Metrics
from sweeptrail.search.space import RunBuilder
from sweeptrail.training.manager import RunManager
from tests.commands import start
from tests.task_runs import carry_out, told

RUN = RunBuilder.get_runs({"lr": [0.1]})[0]


class Counter:
    """Something with a state of its own."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def kind_of(value: Any) -> str | None:
    """Return what a test with such a value is called; its address would differ between processes."""
    return f"{type(value).__module__}.{type(value).__name__}" if not isinstance(value, str) else None


def losses(result: Any) -> list[float | None]:
    return [epoch.loss for epoch in result.epochs]


# Which epochs there are


def test_epochs_are_numbered_from_one_and_all_of_them_are_kept(tmp_path: Path) -> None:
    def train(manager: Any) -> None:
        for epoch in manager.epochs(3):
            manager.log(loss=10 / epoch)

    result = carry_out(train, tmp_path)
    assert losses(result) == [10, 5, 10 / 3]
    assert (result.status, result.warnings) == ("FINISHED", ())
    assert [entry.step for entry in told(tmp_path, EpochMetrics)] == [1, 2, 3]


def test_a_loader_without_a_length_is_a_loader(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[torch.Tensor]):
        def __iter__(self) -> Iterator[torch.Tensor]:
            return iter(torch.arange(6.0))

    def train(manager: Any) -> None:
        loader = DataLoader(Stream(), batch_size=4)
        for _ in manager.epochs(1, loader=loader):
            for batch in loader:
                manager.track_loss(batch.mean())

    assert losses(carry_out(train, tmp_path)) == [pytest.approx((1.5 * 4 + 4.5 * 4) / 8)]


def test_the_loader_that_the_epochs_are_given_weights_their_losses() -> None:
    manager, loader = RunManager([]), DataLoader(TensorDataset(torch.arange(6.0)), batch_size=4)
    manager.begin_run(RUN, nn.Linear(1, 1), None)
    for _ in manager.epochs(1, loader=loader):
        for (batch,) in loader:
            manager.track_loss(batch.mean())
    assert manager.end_run().epochs[0].loss == pytest.approx(2.5)


def test_a_run_with_state_goes_on_after_its_last_epoch(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def train(manager: Any, *, stop_at: int) -> None:
        counter = Counter()
        for epoch in manager.epochs(4, counter=counter):
            if epoch == stop_at:
                raise KeyboardInterrupt
            counter.count += epoch
            seen.append((epoch, counter.count))
            manager.log(loss=counter.count)

    with pytest.raises(KeyboardInterrupt):
        carry_out(train, tmp_path, stop_at=3)
    result = carry_out(train, tmp_path, stop_at=0)
    assert seen == [(1, 1), (2, 3), (3, 6), (4, 10)]
    assert losses(result) == [1, 3, 6, 10]
    assert [entry.step for entry in told(tmp_path, EpochMetrics)] == [1, 2, 3, 4]


def test_a_run_without_state_begins_anew_and_is_told_once(tmp_path: Path) -> None:
    seen: list[int] = []

    def train(manager: Any, *, stop_at: int) -> None:
        for epoch in manager.epochs(3):
            if epoch == stop_at:
                raise KeyboardInterrupt
            seen.append(epoch)
            manager.log(loss=epoch)

    with pytest.raises(KeyboardInterrupt):
        carry_out(train, tmp_path, stop_at=3)
    result = carry_out(train, tmp_path, stop_at=0)
    assert seen == [1, 2, 1, 2, 3]
    assert losses(result) == [1, 2, 3]
    assert [entry.step for entry in told(tmp_path, EpochMetrics)] == [1, 2, 3]


def test_break_completes_its_epoch_and_it_is_the_last_also_after_going_on(tmp_path: Path) -> None:
    seen: list[int] = []

    def train(manager: Any, *, stop: bool) -> None:
        for epoch in manager.epochs(5, counter=Counter()):
            seen.append(epoch)
            manager.log(loss=epoch)
            if epoch == 2:
                break
        manager.log(test_loss=7)
        if stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(train, tmp_path, stop=True)
    result = carry_out(train, tmp_path, stop=False)
    assert seen == [1, 2]
    assert losses(result) == [1, 2]
    assert result.metrics == {"test_loss": 7}
    assert [entry.values for entry in told(tmp_path, FinalMetrics)] == [{"test_loss": 7}]


def test_break_completes_its_epoch_when_the_task_just_returns(tmp_path: Path) -> None:
    def train(manager: Any) -> None:
        for epoch in manager.epochs(5):
            manager.log(loss=epoch)
            if epoch == 2:
                return

    assert losses(carry_out(train, tmp_path)) == [1, 2]


def test_a_loop_that_is_still_held_when_it_is_left_loses_no_epoch(tmp_path: Path) -> None:
    held = []

    def train(manager: Any) -> None:
        loop = manager.epochs(5)
        held.append(loop)
        for epoch in loop:
            manager.log(loss=epoch)
            if epoch == 2:
                break

    assert losses(carry_out(train, tmp_path)) == [1, 2]


def test_an_epoch_that_is_begun_by_hand_and_never_ended_fails_the_run(tmp_path: Path) -> None:
    def train(manager: Any) -> None:
        manager.begin_epoch()
        manager.log(loss=1)

    result = carry_out(train, tmp_path)
    assert (result.status, result.epochs) == ("FAILED", ())
    assert result.reason == "called out of order: begin_epoch() wants end_epoch() before the task returns"


def test_an_epoch_that_raises_is_dropped_and_those_before_it_stay(tmp_path: Path) -> None:
    def train(manager: Any) -> None:
        for epoch in manager.epochs(5):
            manager.log(loss=epoch)
            if epoch == 2:
                raise ValueError("no more")

    result = carry_out(train, tmp_path)
    assert (result.status, result.reason) == ("FAILED", "ValueError: no more")
    assert losses(result) == [1]
    assert [entry.step for entry in told(tmp_path, EpochMetrics)] == [1]


def test_no_epochs_at_all_are_no_mistake(tmp_path: Path) -> None:
    def train(manager: Any) -> None:
        assert list(manager.epochs(0, counter=Counter())) == []
        manager.log(test_loss=1)

    result = carry_out(train, tmp_path)
    assert (result.status, result.epochs, result.metrics) == ("FINISHED", (), {"test_loss": 1})


# The order of calls


def twice_epochs(manager: Any) -> None:
    list(manager.epochs(1))
    list(manager.epochs(1))


def two_loops_at_once(manager: Any) -> None:
    first, second = manager.epochs(2), manager.epochs(2)
    list(zip(first, second, strict=True))


def two_runs(manager: Any) -> None:
    for _ in range(2):
        manager.begin_run(RUN, nn.Linear(1, 1), None)


def two_ends(manager: Any) -> None:
    manager.end_run()
    manager.end_run()


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        (twice_epochs, "epochs() comes once in a run"),
        (two_loops_at_once, "epochs() comes once in a run"),
        (two_runs, "begin_run() comes once in a task: each run of the sweep is a call of its own"),
        (two_ends, "end_run() comes once in a task"),
        (lambda manager: manager.save("results"), "save('results') is not for a task"),
        (lambda manager: manager.end_epoch(), "end_epoch() comes between begin_epoch() and end_epoch()"),
        (lambda manager: manager.track_loss(1.0), "track_loss() comes between begin_epoch() and end_epoch()"),
    ],
)
def test_a_call_out_of_order_fails_the_run_with_a_state_error(train: Any, reason: str, tmp_path: Path) -> None:
    result = carry_out(train, tmp_path)
    assert result.status == "FAILED"
    assert "StateError: " in result.reason
    assert reason in result.reason


def test_the_calls_of_the_article_act_on_the_run_of_the_task(tmp_path: Path) -> None:
    images, labels = torch.eye(4), torch.arange(4)

    def train(manager: Any, *, lr: float) -> None:
        network, loader = nn.Linear(4, 4), DataLoader(TensorDataset(images, labels), batch_size=2)
        optimizer = torch.optim.SGD(network.parameters(), lr=lr)
        manager.begin_run(RUN, network, loader)
        for _ in range(2):
            manager.begin_epoch()
            for batch, wanted in loader:
                preds = network(batch)
                loss = nn.functional.cross_entropy(preds, wanted)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                manager.track_loss(loss)
                manager.track_num_correct(preds, wanted)
            manager.end_epoch(validation_loss=loss)
        manager.end_run(test_loss=loss)

    result = carry_out(train, tmp_path, ("tensorboard", "checkpoint", "outbox"), lr=1.0)
    assert result.error is None
    assert [sorted(epoch.extra) for epoch in result.epochs] == [["validation_loss"]] * 2
    assert list(result.metrics) == ["test_loss"]
    assert result.index == 1
    assert [entry.step for entry in told(tmp_path, EpochMetrics)] == [1, 2]


# Metrics


def test_log_is_of_the_epoch_inside_it_final_after_it_and_by_step_where_that_is_said(tmp_path: Path) -> None:
    def train(manager: Any) -> None:
        for epoch in manager.epochs(2):
            manager.log(inside=epoch)
            manager.log(step=10 * epoch, by_step=epoch / 2)
        manager.log(after=5)

    result = carry_out(train, tmp_path)
    assert [epoch.extra for epoch in result.epochs] == [{"inside": 1}, {"inside": 2}]
    assert result.metrics == {"after": 5}
    assert result.latest == {"by_step": 1}
    assert [(entry.step, entry.values) for entry in told(tmp_path, Metrics)] == [
        (10, {"by_step": 0.5}),
        (20, {"by_step": 1.0}),
    ]


@pytest.mark.parametrize(
    "value",
    [
        1,
        1.0,
        True,
        np.float32(1),
        np.int64(1),
        np.bool_(True),
        np.array(1.0),
        np.array([[1.0]]),
        torch.tensor(1.0),
        torch.tensor([1]),
        torch.ones(1, requires_grad=True),
        torch.tensor(1.0, dtype=torch.bfloat16),
    ],
    ids=kind_of,
)
def test_whatever_float_takes_is_a_metric(value: Any, tmp_path: Path) -> None:
    def train(manager: Any) -> None:
        manager.log(rmse=value)
        manager.log(step=1, mae=value)

    result = carry_out(train, tmp_path)
    assert result.error is None
    assert (result.metrics, result.latest) == ({"rmse": 1.0}, {"mae": 1.0})
    assert type(result.metrics["rmse"]) is float
    assert [entry.values for entry in told(tmp_path, FinalMetrics)] == [{"rmse": 1.0}]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.ones(2), "torch.Tensor of shape (2,)"),
        (np.ones((2, 3)), "numpy.ndarray of shape (2, 3)"),
        ([1.0], "list"),
        ("1.0", "str"),
        (b"1", "bytes"),
        (None, "NoneType"),
        ({"a": 1}, "dict"),
        (1j, "complex"),
        (object(), "object"),
        (np.array("1"), "numpy.ndarray of shape ()"),
    ],
    ids=kind_of,
)
def test_what_is_no_number_is_a_type_error_that_names_it(value: Any, kind: str, tmp_path: Path) -> None:
    result = carry_out(lambda manager: manager.log(fine=1, rmse=value), tmp_path)
    assert result.status == "FAILED"
    assert result.reason == (
        f"TypeError: rmse: expected a number, or a tensor or array of one element, got {kind}; "
        "write rmse=float(...), say"
    )


def test_end_epoch_takes_tensors_and_keeps_them(tmp_path: Path) -> None:
    def train(manager: Any) -> None:
        manager.begin_epoch()
        manager.end_epoch(rmse=torch.tensor(0.5))

    result = carry_out(train, tmp_path)
    assert (result.status, result.epochs[0].extra) == ("FINISHED", {"rmse": 0.5})
    assert [entry.values["rmse"] for entry in told(tmp_path, EpochMetrics)] == [0.5]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a,b", "'a,b': expected a metric's name of letters"),
        ("größe", "'größe': expected a metric's name of letters"),
        ("", "'': expected a metric's name of letters"),
        ("x" * 251, "expected a metric's name of letters"),
        ("epoch_duration", "epoch_duration: every epoch has a metric of that name already"),
        ("run_duration", "run_duration: every epoch has a metric of that name already"),
        ("../up", "'../up': expected a metric's name"),
    ],
)
def test_a_name_that_no_metric_can_have_fails_the_run_and_is_named(name: str, reason: str, tmp_path: Path) -> None:
    result = carry_out(lambda manager: manager.log(**{name: 1}), tmp_path)
    assert result.status == "FAILED"
    assert reason in result.reason


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_recorded_as_it_is(value: float, tmp_path: Path) -> None:
    def train(manager: Any) -> None:
        for _ in manager.epochs(1):
            manager.log(loss=value)
        manager.log(test_loss=value)
        manager.log(step=1, other=value)

    result = carry_out(train, tmp_path)
    assert result.status == "FINISHED"
    kept: list[float | None] = [result.epochs[0].loss, result.metrics["test_loss"], result.latest["other"]]
    kept += [entry.values["loss"] for entry in told(tmp_path, EpochMetrics)]
    assert [str(each) for each in kept] == [str(value)] * 4


def test_a_step_that_is_logged_again_on_going_on_is_told_once_and_a_different_value_is_said(tmp_path: Path) -> None:
    def train(manager: Any, *, stop: bool) -> None:
        for step in range(4):
            manager.log(step=step, loss=step + (not stop and step == 2))
        if stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(train, tmp_path, stop=True)
    result = carry_out(train, tmp_path, stop=False)
    assert [(entry.step, entry.values["loss"]) for entry in told(tmp_path, Metrics)] == [
        *((step, step) for step in range(4)),
        (2, 3),
    ]
    assert result.warnings == (
        "loss at step 2 is 3.0, and was 2.0 before the run went on: the task does not give the same numbers again",
    )


def test_a_process_that_the_task_forks_tells_nothing_a_second_time(tmp_path: Path) -> None:
    def train(manager: Any) -> None:
        child = os.fork()
        for epoch in manager.epochs(2):
            manager.log(step=epoch, by_step=epoch)
            manager.log(loss=epoch)
        if child:
            os.waitpid(child, 0)

    result = carry_out(train, tmp_path, ("tensorboard", "checkpoint", "outbox"))
    assert (result.status, losses(result)) == ("FINISHED", [1, 2])
    assert [entry.step for entry in told(tmp_path, Metrics)] == [1, 2]
    assert [entry.step for entry in told(tmp_path, EpochMetrics)] == [1, 2]
    assert len(told(tmp_path, Closed)) == 1


# State


class Holding:
    """Something whose state holds one thing."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


@pytest.mark.parametrize("value", [np.float64(1), np.ones(2), object(), Path("a"), lambda: 1], ids=kind_of)
def test_state_that_needs_a_pickle_is_a_type_error_that_names_it(value: Any, tmp_path: Path) -> None:
    def train(manager: Any) -> None:
        for _ in manager.epochs(2, fine=Counter(), scheduler=Holding(value)):
            manager.log(loss=1)

    result = carry_out(train, tmp_path)
    assert result.status == "FAILED"
    assert "TypeError: epochs(): the state_dict of scheduler cannot be kept" in result.reason
    assert not list(tmp_path.rglob("checkpoint*"))


def test_what_has_no_state_is_a_type_error_that_names_it(tmp_path: Path) -> None:
    result = carry_out(lambda manager: list(manager.epochs(2, history=[1])), tmp_path)
    assert result.reason == "TypeError: epochs(): history has no state_dict and load_state_dict, so it cannot be kept"


def test_a_damaged_checkpoint_is_said_and_the_run_begins_anew(tmp_path: Path) -> None:
    seen: list[int] = []

    def train(manager: Any, *, stop_at: int) -> None:
        for epoch in manager.epochs(3, counter=Counter()):
            if epoch == stop_at:
                raise KeyboardInterrupt
            seen.append(epoch)
            manager.log(loss=epoch)

    with pytest.raises(KeyboardInterrupt):
        carry_out(train, tmp_path, stop_at=3)
    (tmp_path / "1_run" / "checkpoint.pt").write_bytes(b"torn")
    result = carry_out(train, tmp_path, stop_at=0)
    assert seen == [1, 2, 1, 2, 3]
    assert losses(result) == [1, 2, 3]
    [warning] = result.warnings
    assert "checkpoint.pt cannot be read, so the run begins anew" in warning
    assert [entry.step for entry in told(tmp_path, EpochMetrics)] == [1, 2, 3]


def test_state_that_is_new_in_the_task_is_said_and_the_run_begins_anew(tmp_path: Path) -> None:
    def train(manager: Any, *, more: bool) -> None:
        state = {"other": Counter()} if more else {}
        for epoch in manager.epochs(3, counter=Counter(), **state):
            manager.log(loss=epoch)
            if not more and epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(train, tmp_path, more=False)
    result = carry_out(train, tmp_path, more=True)
    assert losses(result) == [1, 2, 3]
    assert result.warnings == ("checkpoint.pt does not hold other, so the run begins anew",)


def test_the_generators_of_python_numpy_torch_and_the_loader_go_on_where_they_were(tmp_path: Path) -> None:
    def train(manager: Any, *, stop_at: int) -> None:
        generator = torch.Generator().manual_seed(3)
        data = TensorDataset(torch.arange(5))
        loader = DataLoader(data, batch_size=5, shuffle=True, generator=generator)
        for epoch in manager.epochs(4, counter=Counter(), loader=loader):
            if epoch == stop_at:
                raise KeyboardInterrupt
            [[order]] = loader
            manager.log(python=random.random(), numpy=np.random.rand(), torch=torch.rand(1))
            manager.log(order=int("".join(map(str, order.tolist()))))

    expected = carry_out(train, tmp_path / "undisturbed", stop_at=0)
    with pytest.raises(KeyboardInterrupt):
        carry_out(train, tmp_path / "stopped", stop_at=3)
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    found = carry_out(train, tmp_path / "stopped", stop_at=0)
    assert [epoch.extra for epoch in found.epochs] == [epoch.extra for epoch in expected.epochs]


SEEDING = """
import random, sys
from sweeptrail.records import Job
from sweeptrail.tasks.work import Training

class Here:
    def load(self):
        return train

def train(manager, *, seed):
    manager.log(python=random.random())
    assert "torch" not in sys.modules
    import torch
    manager.log(torch=torch.rand(1))

result = Training(Here(), {})(Job(1, "1", {"seed": 5}, {}, ""))
print(*result.metrics.values(), result.error)
"""


@pytest.mark.slow
def test_torch_that_a_task_imports_late_is_seeded(tmp_path: Path) -> None:
    expected = [random.Random(5).random(), float(torch.rand(1, generator=torch.Generator().manual_seed(5)))]
    done = start(sys.executable, "-c", SEEDING, cwd=tmp_path)
    assert (done.stdout, done.stderr) == (f"{expected[0]} {expected[1]} None\n", "")


# Correct predictions


def accuracy(preds: Any, labels: Any) -> tuple[float | None, int]:
    manager = RunManager([])
    manager.begin_run(RUN, nn.Linear(1, 1), None)
    manager.begin_epoch()
    manager.track_num_correct(preds, labels)
    correct = manager.epoch_num_correct
    return manager.end_epoch().accuracy, correct


def perfect(labels: Any, classes: int, *, dtype: Any = torch.float32) -> Any:
    return nn.functional.one_hot(labels, classes).movedim(-1, 1).to(dtype)


BINARY = torch.tensor([0, 1, 1, 0])
TOKENS = torch.tensor([[0, 1, 2], [2, 1, 0]])


@pytest.mark.parametrize(
    ("preds", "labels", "expected"),
    [
        ((2 * BINARY - 1.0)[:, None], BINARY, (1.0, 4)),
        ((2 * BINARY - 1.0)[:, None], BINARY.float(), (1.0, 4)),
        ((2 * BINARY - 1.0)[:, None], BINARY[:, None], (1.0, 4)),
        (2 * BINARY - 1.0, BINARY, (1.0, 4)),
        (2 * BINARY - 1.0, BINARY.bool(), (1.0, 4)),
        ((1 - 2.0 * BINARY)[:, None], BINARY, (0.0, 0)),
        (perfect(TOKENS, 3), TOKENS, (1.0, 6)),
        (perfect(TOKENS, 3, dtype=torch.bfloat16), TOKENS, (1.0, 6)),
        (perfect(TOKENS.flatten(), 3), TOKENS.flatten(), (1.0, 6)),
        (perfect(TOKENS.reshape(1, 2, 3), 3), TOKENS.reshape(1, 2, 3), (1.0, 6)),
        (perfect(TOKENS.flatten()[:1], 3), TOKENS.flatten()[:1], (1.0, 1)),
        (perfect(TOKENS, 4).roll(1, dims=1), TOKENS, (0.0, 0)),
        ((2 * TOKENS.clamp(max=1) - 1.0)[:, None], TOKENS.clamp(max=1), (1.0, 6)),
        (torch.ones(4), torch.tensor([1, 2, 3, 1]), (0.5, 2)),  # what is neither 0 nor 1 is never predicted
    ],
)
def test_correct_predictions_are_counted_for_classes_tokens_and_single_logits(
    preds: Any, labels: Any, expected: tuple[float, int]
) -> None:
    assert accuracy(preds, labels) == expected


def shapes_that_do_not_fit() -> Iterator[tuple[Any, Any, str]]:
    yield torch.zeros(4, 3), torch.zeros(5), "preds (4, 3) of torch.float32, labels (5,)"
    yield torch.zeros(2, 3, 4), TOKENS, "preds (2, 3, 4) of torch.float32, labels (2, 3)"
    yield torch.zeros(4, 1), torch.zeros(3), "preds (4, 1) of torch.float32, labels (3,)"
    yield torch.zeros(1, 4), BINARY, "preds (1, 4) of torch.float32, labels (4,)"
    yield torch.zeros(4), torch.zeros(4, 3), "preds (4,) of torch.float32, labels (4, 3)"
    yield BINARY, BINARY, "preds (4,) of torch.int64, labels (4,)"
    yield BINARY[:, None], BINARY, "preds (4, 1) of torch.int64, labels (4,)"
    yield torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 5), "preds (2, 3, 4, 4) of torch.float32, labels (2, 4, 5)"
    yield torch.tensor(0.5), torch.zeros(4), "preds () of torch.float32, labels (4,)"


@pytest.mark.parametrize(("preds", "labels", "shapes"), list(shapes_that_do_not_fit()))
def test_shapes_that_do_not_fit_are_refused_in_one_line_that_says_which_do(
    preds: Any, labels: Any, shapes: str
) -> None:
    with pytest.raises(ValueError, match=r"\Atrack_num_correct: expected .*got .*; write .*\Z") as refused:
        accuracy(preds, labels)
    assert f"got {shapes};" in str(refused.value)
