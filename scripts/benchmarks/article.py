"""The article's way of doing it, with MLflow beside: one run after another, everything looked at at once.

Started in a folder that holds torchvision's files, with the number of images and of epochs.
"""

import json
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import mlflow
import pandas
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler, Subset
from torch.utils.tensorboard import SummaryWriter
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor
from torchvision.utils import make_grid


class PlainNetwork(nn.Module):
    """The article's network as it stands there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 12, kernel_size=5)
        self.fc1 = nn.Linear(12 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 60)
        self.out = nn.Linear(60, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.max_pool2d(functional.relu(self.conv1(images)), 2, 2)
        hidden = functional.max_pool2d(functional.relu(self.conv2(hidden)), 2, 2)
        hidden = functional.relu(self.fc1(hidden.reshape(-1, 12 * 4 * 4)))
        hidden = functional.relu(self.fc2(hidden))
        return self.out(hidden)  # type: ignore[no-any-return]  # torch has no types for it


class Shuffled(Sampler[int]):
    """The order that a sweep of the same seed has: another order alone changes an accuracy by more than a point."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self._size = size
        self._generator = generator

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self._size, generator=self._generator).tolist())

    def __len__(self) -> int:
        return self._size


def main(samples: int, epochs: int) -> None:
    """Train all combinations of the article's hyperparameters."""
    train_set: Dataset[Any] = FashionMNIST(".", train=True, transform=ToTensor())
    if samples < len(train_set):  # type: ignore[arg-type]  # torch's Dataset promises no length
        train_set = Subset(train_set, range(samples))
    rows: list[dict[str, Any]] = []
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    with mlflow.start_run():
        for number, values in enumerate(product([0.01, 0.001], [100, 1000], [True, False]), 1):
            params = dict(zip(("lr", "batch_size", "shuffle"), values, strict=True))
            with mlflow.start_run(run_name=f"run {number}", nested=True):
                mlflow.log_params(params)
                train(number, params, train_set, epochs, rows)
        pandas.DataFrame(rows).to_csv("results.csv")
        Path("results.json").write_text(json.dumps(rows, indent=4))
        mlflow.log_artifact("results.csv")
        mlflow.log_artifact("results.json")


def train(
    number: int, params: dict[str, Any], train_set: Dataset[Any], epochs: int, rows: list[dict[str, Any]]
) -> None:
    """Train one combination, add a row for each epoch, and show the table of all."""
    began = time.time()
    torch.manual_seed(0)
    network = PlainNetwork()
    generator = torch.Generator()
    # The article names `shuffle` but does not pass it on; without it no combination could be compared.
    sampler = Shuffled(len(train_set), generator) if params["shuffle"] else None  # type: ignore[arg-type]  # torch's Dataset promises no length
    loader = DataLoader(train_set, batch_size=params["batch_size"], sampler=sampler)
    optimizer = torch.optim.Adam(network.parameters(), lr=params["lr"])
    with SummaryWriter(comment=f"-{params}") as writer:
        images, _ = next(iter(loader))
        writer.add_image("images", make_grid(images))
        writer.add_graph(network, images)
        generator.manual_seed(0)
        for epoch in range(1, epochs + 1):
            epoch_began = time.time()
            total_loss, total_correct = train_epoch(network, loader, optimizer, params["batch_size"])
            metrics = {
                "loss": total_loss / len(train_set),  # type: ignore[arg-type]  # torch's Dataset promises no length
                "accuracy": total_correct / len(train_set),  # type: ignore[arg-type]  # torch's Dataset promises no length
                "epoch duration": time.time() - epoch_began,
                "run duration": time.time() - began,
            }
            show(writer, network, metrics, epoch)
            rows.append({"run": number, "epoch": epoch, **metrics, **params})
            print(pandas.DataFrame.from_records(rows))


def train_epoch(
    network: nn.Module, loader: DataLoader[Any], optimizer: torch.optim.Optimizer, batch_size: int
) -> tuple[float, int]:
    """Return the sum of the losses and the number of correct predictions."""
    total_loss, total_correct = 0.0, 0
    for images, labels in loader:
        preds = network(images)
        loss = functional.cross_entropy(preds, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        optimizer.step()
        total_loss += loss.item() * batch_size
        total_correct += int(preds.argmax(dim=1).eq(labels).sum().item())
    return total_loss, total_correct


def show(writer: SummaryWriter, network: nn.Module, metrics: dict[str, float], epoch: int) -> None:
    """Tell TensorBoard and MLflow of an epoch, one value after another."""
    writer.add_scalar("Loss", metrics["loss"], epoch)
    writer.add_scalar("Accuracy", metrics["accuracy"], epoch)
    for name, parameter in network.named_parameters():
        writer.add_histogram(name, parameter, epoch)
        writer.add_histogram(f"{name}.grad", parameter.grad, epoch)
    for name, value in metrics.items():
        mlflow.log_metric(name, value, step=epoch)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
