"""Training and evaluation give the numbers of a plain loop."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeptrail.errors import DataError
from sweeptrail.fashion_mnist.networks import Network
from sweeptrail.fashion_mnist.settings import OPTIMIZERS
from sweeptrail.fashion_mnist.steps import SLICE, evaluate, make_optimizer, slice_size, train_step


class Linear(nn.Sequential):
    """A small network, with further layers before its last one."""

    independent_samples = True

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(nn.Flatten(), *layers, nn.Linear(784, 10))


class Derived(Network):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images - images.mean(0))


def batch(samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(samples, 1, 28, 28, generator=generator), torch.randint(10, (samples,), generator=generator)


def plain_forward(network: Network, images: Tensor) -> Tensor:
    hidden = functional.max_pool2d(functional.relu(network.conv1(images)), 2)
    hidden = functional.max_pool2d(functional.relu(network.conv2(hidden)), 2)
    hidden = functional.relu(network.fc1(hidden.reshape(-1, 192)))
    logits: Tensor = network.out(functional.relu(network.fc2(hidden)))
    return logits


def plain_optimizer(name: str, network: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(network.parameters(), lr, momentum=0.9, weight_decay=weight_decay, foreach=False)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(network.parameters(), lr, weight_decay=weight_decay, foreach=False, fused=False)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "weight_decay"), [*((name, 0.0) for name in OPTIMIZERS), ("adamw", 0.1)])
def test_training_gives_the_numbers_of_a_plain_loop(name: str, weight_decay: float) -> None:
    # In double precision: Adam divides by the size of a gradient, which makes rounding large where it is tiny.
    ours, theirs = Network().double(), Network().double()
    theirs.load_state_dict(ours.state_dict())
    our_optimizer = make_optimizer(name, ours.parameters(), 0.001, weight_decay)
    their_optimizer = plain_optimizer(name, theirs, 0.001, weight_decay)
    for seed, samples in enumerate([50, 2 * SLICE + 7, 100] * 10):
        images, labels = batch(samples, seed)
        images = images.double()
        preds, loss = train_step(ours, images, labels, our_optimizer)
        their_preds = plain_forward(theirs, images)
        their_loss = functional.cross_entropy(their_preds, labels)
        their_optimizer.zero_grad()
        their_loss.backward()
        their_optimizer.step()
        torch.testing.assert_close(preds, their_preds, rtol=0, atol=1e-9)
        torch.testing.assert_close(loss, their_loss, rtol=0, atol=1e-9)


@pytest.mark.parametrize("samples", [1, SLICE, SLICE + 1, 3 * SLICE - 1])
def test_the_gradients_are_those_of_the_mean_over_the_whole_batch(samples: int) -> None:
    network = Network()
    images, labels = batch(samples)
    whole = torch.autograd.grad(functional.cross_entropy(network(images), labels), [*network.parameters()])
    train_step(network, images, labels, make_optimizer("sgd", network.parameters(), 0.1, 0))
    for parameter, gradient in zip(network.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def test_a_step_returns_what_was_before_it_without_history() -> None:
    network = Linear()
    images, labels = batch(3 * SLICE)
    before = network(images).detach()
    preds, loss = train_step(network, images, labels, make_optimizer("adam", network.parameters(), 0.1, 0))
    torch.testing.assert_close(preds, before)
    torch.testing.assert_close(loss, functional.cross_entropy(before, labels))
    assert not preds.requires_grad
    assert not loss.requires_grad


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (Network(), SLICE),
        (Linear(), SLICE),
        (Linear(nn.BatchNorm1d(784)), 1000),
        (Linear(nn.BatchNorm1d(784, track_running_stats=False)), 1000),
        (Linear(nn.SyncBatchNorm(784)), 1000),
        (Linear(nn.Dropout(0.5)), 1000),
        (Linear(nn.AlphaDropout(0.5)), 1000),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), 1000),
        (Derived(), 1000),
    ],
    ids=lambda value: "" if isinstance(value, int) else " ".join(type(one).__name__ for one in value.modules()),
)
def test_only_networks_of_independent_samples_are_computed_in_slices(network: nn.Module, size: int) -> None:
    assert slice_size(network, torch.empty(1000, 1, 28, 28)) == size


def test_batches_elsewhere_than_on_a_cpu_are_computed_whole() -> None:
    assert slice_size(Network(), torch.empty(1000, 1, 28, 28, device="meta")) == 1000


def test_batch_statistics_are_those_of_the_whole_batch() -> None:
    images, labels = batch(3 * SLICE)
    norm = nn.BatchNorm1d(784, momentum=1.0)
    network = Linear(norm)
    train_step(network, images, labels, make_optimizer("adam", network.parameters(), 0.1, 0))
    torch.testing.assert_close(norm.running_mean, images.flatten(1).mean(0))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_from_its_saved_state(name: str) -> None:
    def weights(*, interrupted: bool) -> Tensor:
        torch.manual_seed(0)
        network = Linear()
        optimizer = make_optimizer(name, network.parameters(), 0.01, 0)
        for seed in range(4):
            if interrupted and seed == 2:
                state = optimizer.state_dict()
                optimizer = make_optimizer(name, network.parameters(), 0.01, 0)
                optimizer.load_state_dict(state)
            train_step(network, *batch(20, seed), optimizer)
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    assert torch.equal(weights(interrupted=True), weights(interrupted=False))


def test_complex_parameters_can_be_optimized() -> None:
    parameter = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    optimizer = make_optimizer("adam", [parameter], 0.1, 0)
    parameter.abs().sum().backward()
    optimizer.step()
    assert parameter.abs().max() < 1


@pytest.mark.slow
def test_training_does_not_load_the_compiler() -> None:
    script = """
import sys, torch
from sweeptrail.fashion_mnist.networks import Network
from sweeptrail.fashion_mnist.steps import make_optimizer, train_step
for name in ("adam", "adamw", "sgd"):
    network = Network()
    optimizer = make_optimizer(name, network.parameters(), 0.1, 0)
    train_step(network, torch.rand(20, 1, 28, 28), torch.zeros(20, dtype=torch.int64), optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_freed_memory_is_kept_where_the_c_library_is_glibc() -> None:
    script = """
import platform, resource, sys
from sweeptrail.fashion_mnist.steps import keep_freed_memory
def pages_fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [b"x" * (20 << 20) for _ in range(4)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
keep_freed_memory()
pages_fetched()
sys.exit(platform.libc_ver()[0] == "glibc" and pages_fetched() > 1000)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_evaluation_is_over_samples_not_over_batches() -> None:
    network = Network()
    batches = [batch(100, 0), batch(7, 1)]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    preds = plain_forward(network, images)
    loss, accuracy, *_ = evaluate(network, batches)
    assert loss == pytest.approx(functional.cross_entropy(preds, labels).item(), rel=1e-5)
    assert accuracy == (preds.argmax(1) == labels).sum().item() / 107


def test_evaluation_leaves_each_module_in_its_mode() -> None:
    network = Linear(nn.Dropout(0.5), nn.BatchNorm1d(784))
    network[2].eval()
    first = evaluate(network, [batch(20)])[:2]
    assert evaluate(network, [batch(20)])[:2] == first
    assert [module.training for module in network.children()] == [True, True, False, True]


def failing() -> Iterator[tuple[Tensor, Tensor]]:
    yield batch(20)
    raise OSError("the disk is gone")


def test_a_failing_evaluation_leaves_the_network_in_its_mode() -> None:
    network = Linear()
    with pytest.raises(OSError, match="the disk is gone"):
        evaluate(network, failing())
    assert network.training


def test_evaluation_teaches_nothing() -> None:
    network = Linear(nn.BatchNorm1d(784))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate(network, [batch(20)])
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_without_finite_weights_evaluates_to_nan() -> None:
    network = Network()
    nn.init.constant_(network.conv1.weight, torch.nan)
    loss, accuracy, *_ = evaluate(network, [batch(20)])
    assert loss != loss
    assert 0 <= accuracy <= 1


def test_a_loader_without_a_batch_is_refused() -> None:
    with pytest.raises(DataError, match="expected at least one batch, got none"):
        evaluate(Network(), [])
