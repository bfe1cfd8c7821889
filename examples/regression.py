"""A regression, where the least error wins: sweeptrail sweep regression:train lr=0.1,0.01 --goal min:validation_rmse"""

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

HELD_OUT = 100


def prepare():
    """Make the data, once on each machine: ten features of a patient, and how the disease went on."""
    features, target = load_diabetes(return_X_y=True, scaled=False)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    return {"features": features.astype("float32"), "target": (target / 100).astype("float32")[:, None]}


def train(manager, *, lr: float = 0.01, hidden: int = 32, weight_decay: float = 0.0, epochs: int = 10):
    """Foretell the course of the disease after one year."""
    features, target = (torch.from_numpy(manager.shared[name]) for name in ("features", "target"))
    loader = DataLoader(TensorDataset(features[HELD_OUT:], target[HELD_OUT:]), batch_size=32, shuffle=True)
    network = nn.Sequential(nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    for _ in manager.epochs(epochs, network=network, optimizer=optimizer, loader=loader):
        for batch, wanted in loader:
            loss = mse_loss(network(batch), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            manager.track_loss(loss)
        with torch.no_grad():
            rmse = mse_loss(network(features[:HELD_OUT]), target[:HELD_OUT]).sqrt()
        manager.log(validation_rmse=rmse)
