"""Lightning, whose MLFlowLogger writes to the run: sweeptrail sweep lightning_logger:train lr=0.1,0.01 hidden=16,32"""

import lightning
import torch
from lightning.pytorch.loggers import MLFlowLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

HELD_OUT = 360


def prepare():
    """Make the data, once on each machine."""
    digits = load_digits()
    return {"images": (digits.data / 16).astype("float32"), "labels": digits.target}


class Digits(lightning.LightningModule):
    def __init__(self, lr, hidden):
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def training_step(self, batch, index):
        images, labels = batch
        loss = cross_entropy(self.network(images), labels)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        images, labels = batch
        self.log("validation_accuracy", (self.network(images).argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


def train(manager, *, lr: float = 0.01, hidden: int = 32, epochs: int = 3):
    """Learn scikit-learn's digits."""
    images, labels = (torch.from_numpy(manager.shared[name]) for name in ("images", "labels"))
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=MLFlowLogger(run_id=manager.run_id),
        default_root_dir=manager.folder,
        enable_progress_bar=False,
    )
    trainer.fit(
        Digits(lr, hidden),
        DataLoader(TensorDataset(images[HELD_OUT:], labels[HELD_OUT:]), batch_size=50, shuffle=True),
        DataLoader(TensorDataset(images[:HELD_OUT], labels[:HELD_OUT]), batch_size=HELD_OUT),
    )
