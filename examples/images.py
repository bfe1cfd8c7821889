"""Images of CIFAR's shape, 3 x 32 x 32, made up here: sweeptrail sweep images:train lr=0.1,0.01 width=8,16"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

NUM_IMAGES, HELD_OUT, NUM_CLASSES = 2000, 500, 10


def prepare():
    """Make the data, once on each machine: each class has a pattern of its own, under noise."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(NUM_CLASSES, 3, 32, 32, generator=generator)
    labels = torch.randint(NUM_CLASSES, (NUM_IMAGES,), generator=generator)
    noise = 0.5 * torch.randn(NUM_IMAGES, 3, 32, 32, generator=generator)
    return {"images": patterns[labels] + noise, "labels": labels}


class Cnn(nn.Sequential):
    def __init__(self, width, dropout):
        super().__init__(
            *(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4)),
            *(nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * width * 16, NUM_CLASSES)),
        )


def train(manager, *, lr: float = 0.05, width: int = 8, dropout: float = 0.0, momentum: float = 0.9, epochs: int = 3):
    """Learn the classes with a small convolutional network."""
    images, labels = (torch.from_numpy(manager.shared[name]) for name in ("images", "labels"))
    loader = DataLoader(TensorDataset(images[HELD_OUT:], labels[HELD_OUT:]), batch_size=50, shuffle=True)
    network = Cnn(width, dropout)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in manager.epochs(epochs, network=network, optimizer=optimizer, loader=loader, schedule=schedule):
        network.train()
        for batch, targets in loader:
            preds = network(batch)
            loss = cross_entropy(preds, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            manager.track_loss(loss)
            manager.track_num_correct(preds, targets)
        schedule.step()
        network.eval()
        with torch.no_grad():
            correct = network(images[:HELD_OUT]).argmax(dim=1) == labels[:HELD_OUT]
        manager.log(validation_accuracy=correct.float().mean())
