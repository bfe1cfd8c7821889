"""The counts of a run, and what the sinks are told."""

import weakref
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from sweeptrail.errors import StateError
from sweeptrail.records import Epoch, RunResult, RunStart
from sweeptrail.search.space import RunBuilder
from sweeptrail.sink import Sink
from sweeptrail.training.manager import RunManager

RUN = RunBuilder.get_runs({"lr": [0.1], "batch_size": [32]})[0]


class Memory(Sink):
    """A sink that remembers, and fails where it is told to."""

    def __init__(self, fails_at: str = "") -> None:
        self.told: list[Any] = []
        self._fails_at = fails_at

    def begin(self, start: RunStart) -> None:
        self._hear("begin", start)

    def epoch(self, epoch: Epoch) -> None:
        self._hear("epoch", epoch)

    def end(self, result: RunResult) -> None:
        self._hear("end", result)

    def _hear(self, moment: str, fact: Any) -> None:
        if moment == self._fails_at:
            raise OSError("the disk is full")
        self.told.append(fact)


def loader(samples: int = 100, batch_size: int = 32) -> Any:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(samples, 4, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(samples) % 3), batch_size=batch_size)


def run_epoch(manager: RunManager, network: nn.Module, batches: Any) -> Epoch:
    manager.begin_epoch()
    for images, labels in batches:
        preds = network(images)
        manager.track_loss(functional.cross_entropy(preds, labels))
        manager.track_num_correct(preds, labels)
    return manager.end_epoch()


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples_also_with_a_short_last_batch() -> None:
    network, batches, manager = nn.Linear(4, 3), loader(samples=100, batch_size=32), RunManager([])
    manager.begin_run(RUN, network, batches)
    epoch = run_epoch(manager, network, batches)
    images, labels = batches.dataset.tensors
    preds = network(images).detach()
    by_hand = [float(functional.cross_entropy(preds[i : i + 1], labels[i : i + 1])) for i in range(100)]
    assert abs(epoch.metrics["loss"] - sum(by_hand) / 100) < 1e-6
    assert epoch.accuracy == int((preds.argmax(1) == labels).sum()) / 100
    assert abs(manager.epoch_loss - sum(by_hand)) < 1e-4
    assert manager.epoch_num_correct == round(epoch.metrics["accuracy"] * 100)


def test_the_loss_alone_is_enough_to_know_how_many_samples_a_batch_has() -> None:
    batches, manager = loader(samples=70, batch_size=32), RunManager([])
    manager.begin_run(RUN, nn.Linear(4, 3), batches)
    manager.begin_epoch()
    for value in (1.0, 2.0, 4.0):
        manager.track_loss(torch.tensor(value))
    assert manager.end_epoch().loss == pytest.approx((1.0 * 32 + 2.0 * 32 + 4.0 * 6) / 70)


def test_counting_does_not_hold_on_to_the_graph_of_the_loss() -> None:
    network, batches, manager = nn.Linear(4, 3), loader(), RunManager([])
    manager.begin_run(RUN, network, batches)
    manager.begin_epoch()
    images, labels = next(iter(batches))
    preds = network(images)  # which its loss's graph holds on to
    kept = weakref.ref(preds)
    manager.track_loss(functional.cross_entropy(preds, labels))
    del preds
    assert kept() is None


def test_the_attributes_that_a_loop_reads_are_kept() -> None:
    network, batches, manager = nn.Linear(4, 3), loader(), RunManager([])
    for count in (1, 2):
        manager.begin_run(RUN, network, batches)
        assert (manager.run_count, manager.epoch_count, manager.run_params) == (count, 0, RUN)
        assert manager.network is network
        assert manager.loader is batches
        for epoch in (1, 2):
            manager.begin_epoch()
            assert (manager.epoch_count, manager.epoch_loss, manager.epoch_num_correct) == (epoch, 0, 0)
            manager.track_loss(torch.tensor(0.5))
            manager.track_num_correct(torch.zeros(2, 3), torch.zeros(2))
            manager.end_epoch()
        manager.end_run()
    assert [(row["run"], row["epoch"]) for row in manager.run_data] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    columns = ["run", "epoch", "loss", "accuracy", "epoch duration", "run duration", "lr", "batch_size"]
    assert list(manager.run_data[0]) == columns


def test_a_namedtuple_of_the_reader_s_own_is_a_run_too() -> None:
    manager = RunManager([sink := Memory()])
    own = namedtuple("own", ["lr", "layers"])
    manager.begin_run(own(0.1, [1, 2]), nn.Linear(4, 3), loader())
    assert sink.told[0].params == {"lr": 0.1, "layers": [1, 2]}


def test_sinks_are_told_each_fact_once_in_order() -> None:
    sink, network, batches = Memory(), nn.Linear(4, 3), loader()
    manager = RunManager([sink])
    with manager.run(RUN, network, batches):
        run_epoch(manager, network, batches)
        run_epoch(manager, network, batches)
    start, first, second, result = sink.told
    assert start.name == "1_lr=0.1,batch_size=32"
    assert (first.epoch, second.epoch) == (1, 2)
    assert result.epochs == (first, second)
    assert (result.status, result.error) == ("FINISHED", None)


@pytest.mark.parametrize(("error", "status"), [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_loop_that_raises_ends_its_run_honestly(error: BaseException, status: str) -> None:
    sink, network, batches = Memory(), nn.Linear(4, 3), loader()
    manager = RunManager([sink])

    def loop() -> None:
        with manager.run(RUN, network, batches):
            run_epoch(manager, network, batches)
            raise error

    with pytest.raises(type(error)):
        loop()
    result = sink.told[-1]
    assert result.status == status
    assert "Traceback" in result.error
    assert type(error).__name__ in result.reason
    assert len(result.epochs) == 1


def test_a_run_that_its_loop_left_open_fails_when_the_next_one_begins() -> None:
    sink, network, batches = Memory(), nn.Linear(4, 3), loader()
    manager = RunManager([sink])
    manager.begin_run(RUN, network, batches)
    manager.begin_run(RUN, network, batches)
    assert sink.told[1].status == "FAILED"
    assert "end_run() was not called" in sink.told[1].reason
    assert manager.run_count == 2


def test_a_sink_that_cannot_begin_stops_the_run_and_closes_those_that_had_begun() -> None:
    first, last = Memory(), Memory()
    manager = RunManager([first, Memory(fails_at="begin"), last])
    with pytest.raises(OSError, match="the disk is full"):
        manager.begin_run(RUN, nn.Linear(4, 3), loader())
    assert [type(fact).__name__ for fact in first.told] == ["RunStart", "RunResult"]
    assert first.told[1].status == "FAILED"
    assert last.told == []
    assert not manager.is_open


@pytest.mark.parametrize("moment", ["epoch", "end"])
def test_a_sink_that_dies_later_does_not_stop_the_others_and_leaves_one_warning(moment: str) -> None:
    healthy, network, batches = Memory(), nn.Linear(4, 3), loader()
    manager = RunManager([Memory(fails_at=moment), healthy])
    manager.begin_run(RUN, network, batches)
    run_epoch(manager, network, batches)
    run_epoch(manager, network, batches)
    result = manager.end_run()
    assert len(result.warnings) == 1
    assert "Memory stopped at" in result.warnings[0]
    assert "the disk is full" in result.warnings[0]
    assert [type(fact).__name__ for fact in healthy.told] == ["RunStart", "Epoch", "Epoch", "RunResult"]
    assert healthy.told[-1].warnings == result.warnings


def calls_out_of_order() -> Iterator[Any]:
    loss = torch.tensor(1.0)
    yield lambda manager: manager.begin_epoch()
    yield lambda manager: manager.end_epoch()
    yield lambda manager: manager.end_run()
    yield lambda manager: manager.fail_run("no")
    yield lambda manager: manager.track_loss(loss)
    yield lambda manager: manager.track_num_correct(torch.zeros(2, 3), torch.zeros(2))
    yield lambda manager: manager.tb
    yield lambda manager: (manager.begin_run(RUN, nn.Linear(4, 3), loader()), manager.track_loss(loss))
    yield lambda manager: (manager.begin_run(RUN, nn.Linear(4, 3), loader()), manager.save("results"))


@pytest.mark.parametrize("call", list(calls_out_of_order()))
def test_a_call_out_of_order_says_where_it_belongs(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StateError, match=r"called out of order: \w+(\(\))? (comes|is there) "):
        call(RunManager([]))
    assert list(tmp_path.iterdir()) == []


def test_save_writes_both_files_beside_each_other(tmp_path: Path) -> None:
    network, batches, manager = nn.Linear(4, 3), loader(), RunManager([])
    with manager.run(RUN, network, batches):
        run_epoch(manager, network, batches)
    manager.save(str(tmp_path / "my results.v1"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my results.v1.csv", "my results.v1.json"]
