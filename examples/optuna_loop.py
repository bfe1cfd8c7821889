"""Optuna chooses, a loop of one's own trains, a RunManager tracks it: python optuna_loop.py 20"""

import sys
from collections import namedtuple

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from sweeptrail import RunManager

HELD_OUT = 360

digits = load_digits()
images, labels = torch.from_numpy(digits.data).float() / 16, torch.from_numpy(digits.target)
loader = DataLoader(TensorDataset(images[HELD_OUT:], labels[HELD_OUT:]), batch_size=50, shuffle=True)
manager = RunManager()
Run = namedtuple("Run", "lr hidden")


def objective(trial):
    run = Run(lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True), hidden=trial.suggest_int("hidden", 8, 128, log=True))
    network = nn.Sequential(nn.Linear(64, run.hidden), nn.ReLU(), nn.Linear(run.hidden, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=run.lr)
    with manager.run(run, network, loader):
        for _ in manager.epochs(3, network, optimizer, loader):
            for batch, targets in loader:
                preds = network(batch)
                loss = cross_entropy(preds, targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                manager.track_loss(loss)
                manager.track_num_correct(preds, targets)
            with torch.no_grad():
                correct = network(images[:HELD_OUT]).argmax(dim=1) == labels[:HELD_OUT]
            accuracy = correct.float().mean().item()
            manager.log(validation_accuracy=accuracy)
    return accuracy


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(objective, n_trials=int(sys.argv[1]))
manager.save("results")
print("best:", study.best_params)
