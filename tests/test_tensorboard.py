"""Event files are read back by TensorBoard's own readers, the HParams page by its plugin's own code."""

import math
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups
from tensorboard.util.tensor_util import make_ndarray
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from sweeptrail.records import Epoch, RunResult, RunStart
from sweeptrail.training.sinks.network_events import _histogram
from sweeptrail.training.sinks.tensorboard import TensorBoard, cut_events, event_files

EVERYTHING = dict.fromkeys(("scalars", "histograms", "images", "tensors"), 0)
LOADER = [(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0]))]


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.conv2 = nn.Conv2d(2, 2, 3)
        self.fc1 = nn.Linear(32, 8)
        self.fc2 = nn.Linear(8, 4)
        self.out = nn.Linear(4, 3)

    def forward(self, images):
        return self.out(self.fc2(self.fc1(self.conv2(self.conv1(images)).flatten(1))))


class Untraceable(Small):
    def forward(self, images):
        return {"logits": super().forward(images)}


class Restless(Small):
    def forward(self, images):
        return super().forward(images + torch.rand_like(images))


def start(name="1_lr=0.01", params=None, **more):
    return RunStart(index=1, name=name, params=params or {"lr": 0.01}, time=50.0, **more)


def epoch(number, **extra):
    return Epoch(1, number, 1 / number, 0.5 + number / 10, 1.0, float(number), extra=extra, time=100.0 + number)


def result(epochs, status="FINISHED", **metrics):
    return RunResult(1, "1_lr=0.01", {"lr": 0.01}, status, tuple(epochs), metrics, time=200.0)


def learn(network):
    network.zero_grad()
    network(LOADER[0][0]).square().mean().backward()


def begin(sink, began, network, loader, known_epochs=0):
    sink.begin(began)
    sink.watch(network, loader, known_epochs=known_epochs)


def write(parent, began, epochs=(), *, network=None, status="FINISHED", known_epochs=0, **metrics):
    """Write a whole run; return the names of its event files."""
    network = network or Small()
    sink = TensorBoard(str(parent))
    begin(sink, began, network, LOADER, known_epochs)
    for one in epochs:
        learn(network)
        sink.epoch(one)
    sink.end(result(epochs, status, **metrics))
    return sorted(Path(parent, began.name).iterdir())


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance=EVERYTHING)
    return accumulator.Reload()


def page(logdir):
    """Return the columns, the metrics and the sessions that the HParams page of this folder shows."""
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(logdir)).Reload()
    context = backend_context.Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(logdir))))
    ask = api_pb2.GetExperimentRequest(include_metrics=True)
    experiment = get_experiment.Handler(RequestContext(), context, "", ask).run()
    ask = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=api_pb2.Status.values(), slice_size=100, include_metrics=True
    )
    groups = list_session_groups.Handler(RequestContext(), context, "", ask).run().session_groups
    columns = {info.name for info in experiment.hparam_infos}
    metrics = {(info.name.group, info.name.tag) for info in experiment.metric_infos}
    return columns, metrics, {session.name: (group, session) for group in groups for session in group.sessions}


def hyperparameters(group):
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()}


def finals(session):
    return {value.name.tag: pytest.approx(value.value) for value in session.metric_values}


def test_every_value_of_a_run_is_in_one_event_file_of_its_own_folder_at_each_step_once(tmp_path):
    files = write(tmp_path, start(), [epoch(number) for number in (1, 2, 3)])
    assert len(files) == 1
    events = read(tmp_path / "1_lr=0.01")
    assert [event.step for event in events.Images("images")] == [0]
    assert [(event.step, event.value) for event in events.Scalars("Loss")] == [
        (number, pytest.approx(1 / number)) for number in (1, 2, 3)
    ]
    assert [event.value for event in events.Scalars("Accuracy")] == pytest.approx([0.6, 0.7, 0.8])
    names = [name for name, _ in Small().named_parameters()]
    assert set(events.Tags()["histograms"]) == {tag for name in names for tag in (name, f"{name}.grad")}
    assert len(events.Tags()["histograms"]) == 20
    for tag in events.Tags()["histograms"]:
        assert [event.step for event in events.Histograms(tag)] == [1, 2, 3]


def test_the_graph_shows_the_layers_by_name(tmp_path):
    write(tmp_path, start())
    nodes = " ".join(node.name for node in read(tmp_path / "1_lr=0.01").Graph().node)
    assert all(f"[{layer}]" in nodes for layer in ("conv1", "conv2", "fc1", "fc2", "out"))


def test_times_are_those_of_the_facts(tmp_path):
    write(tmp_path, start(), [epoch(1), epoch(2)], test_loss=0.5)
    events = read(tmp_path / "1_lr=0.01")
    assert [event.wall_time for event in events.Scalars("Loss")] == [101, 102]
    assert [event.wall_time for event in events.Histograms("out.bias")] == [101, 102]
    assert events.Images("images")[0].wall_time == 50
    assert events.Scalars("Test loss")[0].wall_time == 200


def test_a_fact_without_a_time_gets_the_present_one(tmp_path):
    write(tmp_path, start(), [Epoch(1, 1, 0.5, 0.5, 1.0, 1.0)])
    assert read(tmp_path / "1_lr=0.01").Scalars("Loss")[0].wall_time > 1e9


def test_further_metrics_are_scalars_with_readable_names(tmp_path):
    write(tmp_path, start(), [epoch(1, validation_accuracy=0.25), epoch(2, validation_accuracy=0.5)], test_loss=0.75)
    events = read(tmp_path / "1_lr=0.01")
    assert [(event.step, event.value) for event in events.Scalars("Validation accuracy")] == [(1, 0.25), (2, 0.5)]
    assert [(event.step, event.value) for event in events.Scalars("Test loss")] == [(2, 0.75)]


def test_at_most_a_hundred_images_are_shown(tmp_path):
    sink = TensorBoard(str(tmp_path))
    begin(sink, start(), Small(), [(torch.rand(300, 1, 8, 8), torch.zeros(300))])
    sink.end(result([]))
    image = read(tmp_path / "1_lr=0.01").Images("images")[0]
    assert (image.width, image.height) == (8 * 8, math.ceil(100 / 8) * 8)


def test_an_epoch_is_on_disk_as_soon_as_it_is_written(tmp_path):
    sink, network = TensorBoard(str(tmp_path)), Small()
    begin(sink, start(), network, LOADER)
    for number in (1, 2):
        learn(network)
        sink.epoch(epoch(number))
        assert [event.step for event in read(tmp_path / "1_lr=0.01").Scalars("Loss")] == list(range(1, number + 1))
    sink.end(result([epoch(1), epoch(2)]))


def test_the_writer_is_there_while_a_run_is_open(tmp_path):
    sink = TensorBoard(str(tmp_path))
    assert sink.writer is None
    for name in ("1", "2"):
        begin(sink, start(name), Small(), LOADER)
        assert isinstance(sink.writer, SummaryWriter)
        assert sink.writer.log_dir == os.path.join(tmp_path, name)
        sink.end(result([]))
        assert sink.writer is None


def test_a_folder_name_may_be_hostile(tmp_path):
    name = "1_a='x y',b=\"ü\"\n%41"
    write(tmp_path, start(name), [epoch(1)])
    assert [event.step for event in read(tmp_path / name).Scalars("Loss")] == [1]


def test_a_run_that_begins_anew_in_its_folder_shows_each_step_once(tmp_path):
    write(tmp_path, start(), [epoch(1), epoch(2)], status="KILLED")
    assert len(write(tmp_path, start(), [epoch(1), epoch(2), epoch(3)])) == 1
    assert [event.step for event in read(tmp_path / "1_lr=0.01").Scalars("Loss")] == [1, 2, 3]


@pytest.mark.parametrize("torn", [0, 20])
@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_a_run_that_goes_on_shows_each_step_once_and_its_last_ending(tmp_path, torn, status):
    [first] = write(tmp_path, start(), [epoch(1), epoch(2), epoch(3)], status=status, test_accuracy=0.1)
    # Readers take the files in the order of the seconds in their names, and both are of the same second here.
    renamed = first.rename(first.with_name("events.out.tfevents.0000000001.host.1.0"))
    renamed.write_bytes(renamed.read_bytes()[: renamed.stat().st_size - torn])
    epochs = [epoch(1), epoch(2), epoch(3), epoch(4)]
    assert len(write(tmp_path, start(), epochs, known_epochs=2, test_accuracy=0.9)) == 2
    events = read(tmp_path / "1_lr=0.01")
    modern = plugin_event_accumulator.EventAccumulator(str(tmp_path / "1_lr=0.01"), tensor_size_guidance={}).Reload()
    for tag in ("Loss", "out.weight.grad"):
        assert [event.step for event in modern.Tensors(tag)] == [1, 2, 3, 4]
    assert [event.step for event in modern.Tensors("images")] == [0]
    assert [event.step for event in events.Scalars("Loss")] == [1, 2, 3, 4]
    assert [event.value for event in events.Scalars("Test accuracy")] == [pytest.approx(0.9)]
    assert page(tmp_path)[2]["1_lr=0.01"][1].status == api_pb2.STATUS_SUCCESS


def test_the_hparams_page_has_one_session_for_each_run_of_two_sweeps(tmp_path):
    epochs = [epoch(1, validation_accuracy=0.25), epoch(2, validation_accuracy=0.5)]
    settings = {"seed": 0, "optimizer": "adam", "train_samples": None}
    first, second = {"lr": 0.01, "batch_size": 100, "shuffle": True}, {"lr": 0.001, "batch_size": 100, "shuffle": False}
    write(tmp_path / "a", start("1", first, settings=settings), epochs, test_accuracy=0.75)
    write(tmp_path / "a", start("2", second, settings=settings), epochs, status="FAILED")
    write(tmp_path / "b", start("1", {"lr": 0.5, "network": "Network"}), [epoch(1)], test_accuracy=0.5)
    columns, metrics, sessions = page(tmp_path)
    assert columns == {"lr", "batch_size", "shuffle", "seed", "optimizer", "network"}
    assert metrics == {("", tag) for tag in ("Loss", "Accuracy", "Validation accuracy", "Test accuracy")}
    assert set(sessions) == {"a/1", "a/2", "b/1"}
    group, session = sessions["a/1"]
    assert hyperparameters(group) == {**first, "seed": 0, "optimizer": "adam"}
    assert finals(session) == {"Loss": 0.5, "Accuracy": 0.7, "Validation accuracy": 0.5, "Test accuracy": 0.75}
    assert (session.start_time_secs, session.end_time_secs) == (50, 200)
    assert hyperparameters(sessions["b/1"][0]) == {"lr": 0.5, "network": "Network"}
    assert finals(sessions["b/1"][1]) == {"Loss": 1.0, "Accuracy": 0.6, "Test accuracy": 0.5}


@pytest.mark.parametrize(
    ("status", "shown"),
    [("FINISHED", api_pb2.STATUS_SUCCESS), ("FAILED", api_pb2.STATUS_FAILURE), ("KILLED", api_pb2.STATUS_FAILURE)],
)
def test_the_hparams_page_shows_how_a_run_ended(tmp_path, status, shown):
    write(tmp_path, start(), [epoch(1)], status=status)
    assert page(tmp_path)[2]["1_lr=0.01"][1].status == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(True, True), (3, 3.0), (np.int64(3), 3.0), (0.5, 0.5), ("adam", "adam"), (None, "None"), ((1, 2), "(1, 2)")],
)
def test_a_hyperparameter_may_be_any_value(tmp_path, value, shown):
    write(tmp_path, start(params={"axis": value}))
    found = hyperparameters(page(tmp_path)[2]["1_lr=0.01"][0])["axis"]
    assert (found, type(found)) == (shown, type(shown))


def test_a_hyperparameter_that_is_not_a_number_leaves_the_page_whole(tmp_path):
    write(tmp_path, start("1", {"lr": math.nan, "momentum": 0.5}), [epoch(1)])
    assert hyperparameters(page(tmp_path)[2]["1"][0]) == {"momentum": 0.5}


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_a_gradient_that_cannot_be_counted_costs_its_own_histogram(tmp_path, bad):
    sink, network = TensorBoard(str(tmp_path)), Small()
    begin(sink, start(), network, LOADER)
    learn(network)
    network.out.bias.grad = torch.full_like(network.out.bias, bad)
    network.fc1.weight.grad = None
    sink.epoch(epoch(1))
    sink.end(result([epoch(1)], "FAILED"))
    tags = read(tmp_path / "1_lr=0.01").Tags()["histograms"]
    assert len(tags) == 18
    assert not {"out.bias.grad", "fc1.weight.grad"} & set(tags)


def test_a_network_without_gradients_has_the_histograms_of_its_weights(tmp_path):
    sink = TensorBoard(str(tmp_path))
    begin(sink, start(), Small(), LOADER)
    sink.epoch(epoch(1))
    sink.end(result([epoch(1)]))
    assert len(read(tmp_path / "1_lr=0.01").Tags()["histograms"]) == 10


@pytest.mark.parametrize("scale", [1e-15, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_a_histogram_is_shown_as_that_of_add_histogram_in_fewer_bytes(tmp_path, scale, size):
    values = torch.randn(size, generator=torch.Generator().manual_seed(size)) * scale
    with SummaryWriter(str(tmp_path)) as writer:
        ours = _histogram(values, np.array(writer.default_bins)) or {}
        writer.add_histogram_raw("ours", **ours)
        writer.add_histogram("theirs", values)
    events = read(tmp_path)
    mine, reference = events.Histograms("ours")[0].histogram_value, events.Histograms("theirs")[0].histogram_value
    for name in ("min", "max", "num", "sum", "sum_squares"):
        assert getattr(mine, name) == pytest.approx(getattr(reference, name))
    assert len(mine.bucket) <= len(reference.bucket)
    modern = plugin_event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    shown, expected = (make_ndarray(modern.Tensors(tag)[0].tensor_proto) for tag in ("ours", "theirs"))
    np.testing.assert_array_equal(shown[shown[:, 2] > 0], expected[expected[:, 2] > 0])
    np.testing.assert_array_equal(shown[1:, 0], shown[:-1, 1], "the bins leave no gap")


def test_a_network_that_cannot_be_traced_costs_one_warning(tmp_path):
    sink = TensorBoard(str(tmp_path))
    with pytest.warns(UserWarning, match="^1_lr=0.01: TensorBoard shows no graph: RuntimeError: ") as caught:
        begin(sink, start(), Untraceable(), LOADER)
    sink.epoch(epoch(1))
    sink.end(result([epoch(1)]))
    assert len(caught) == 1
    events = read(tmp_path / "1_lr=0.01")
    assert not events.Tags()["graph"]
    assert [event.step for event in events.Scalars("Loss")] == [1]


def test_inputs_that_are_no_images_are_left_out_in_silence(tmp_path):
    network, sink = nn.Linear(5, 2), TensorBoard(str(tmp_path))
    begin(sink, start(), network, [(torch.rand(4, 5), torch.zeros(4))])
    sink.end(result([]))
    tags = read(tmp_path / "1_lr=0.01").Tags()
    assert not tags["images"]
    assert tags["graph"]


@pytest.mark.parametrize("loader", [None, [{"input": torch.rand(4, 5)}], iter([(torch.rand(4, 1, 8, 8),)])])
def test_a_loader_without_inputs_to_look_at_is_left_alone(tmp_path, loader):
    sink = TensorBoard(str(tmp_path))
    begin(sink, start(), Small(), loader)
    sink.end(result([]))
    assert not read(tmp_path / "1_lr=0.01").Tags()["graph"]
    assert page(tmp_path)[2]["1_lr=0.01"]


def test_what_was_logged_by_steps_before_the_last_epoch_is_kept_when_a_run_goes_on(tmp_path):
    sink = TensorBoard(str(tmp_path))
    begin(sink, start(), Small(), LOADER)
    for step in range(100, 104):
        sink.measure({"lr": 0.1}, step, 60.0)
    sink.epoch(epoch(1))
    sink.measure({"lr": 0.2}, 104, 61.0)
    sink.end(result([], "KILLED"))
    sink = TensorBoard(str(tmp_path))
    begin(sink, start(), Small(), LOADER, known_epochs=1)
    sink.epoch(epoch(1))
    sink.measure({"lr": 0.2}, 104, 62.0)
    sink.end(result([epoch(1)]))
    assert [event.step for event in read(tmp_path / "1_lr=0.01").Scalars("Lr")] == [100, 101, 102, 103, 104]


def test_the_network_and_the_random_state_stay_as_they_were(tmp_path):
    network = Restless().train()
    network.conv1.eval()
    modes = [module.training for module in network.modules()]
    before = torch.get_rng_state()
    sink = TensorBoard(str(tmp_path))
    begin(sink, start(), network, LOADER)
    sink.end(result([]))
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)


class Unprintable:
    def __str__(self):
        raise ValueError("no text")

    def __float__(self):
        raise ValueError("no number")


def test_a_begin_that_fails_leaves_no_writer_behind(tmp_path):
    sink = TensorBoard(str(tmp_path))
    with pytest.raises(ValueError, match="no text"):
        begin(sink, start(params={"axis": Unprintable()}), Small(), LOADER)
    assert sink.writer is None
    assert "_AsyncWriterThread" not in {type(thread).__name__ for thread in threading.enumerate()}


def test_an_epoch_that_fails_leaves_no_writer_behind(tmp_path):
    sink = TensorBoard(str(tmp_path))
    begin(sink, start(), Small(), LOADER)
    with pytest.raises(ValueError, match="no number"):
        sink.epoch(epoch(1, validation_loss=Unprintable()))
    assert sink.writer is None
    assert "_AsyncWriterThread" not in {type(thread).__name__ for thread in threading.enumerate()}


def test_an_unusable_folder_is_an_error_at_the_beginning(tmp_path):
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(OSError, match="runs"):
        begin(TensorBoard(str(tmp_path / "runs")), start(), Small(), LOADER)


def test_what_was_written_within_the_same_second_by_another_process_is_kept_in_its_order(tmp_path):
    [first] = write(tmp_path, start(), [epoch(1)])
    first.rename(first.with_name("events.out.tfevents.0000000001.host.9.0"))
    [second] = {*write(tmp_path, start(), [epoch(1), epoch(2)], known_epochs=1)} - {*first.parent.glob("*.9.0")}
    second.rename(second.with_name("events.out.tfevents.0000000001.host.10.0"))  # a name that sorts before the other
    cut_events(event_files(str(first.parent)), 2)
    assert len(event_files(str(first.parent))) == 2
    steps = [[event.step for event in read(path).Scalars("Loss")] for path in event_files(str(first.parent))]
    assert steps == [[1], [2]]
