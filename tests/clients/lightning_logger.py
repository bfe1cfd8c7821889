"""Lightning with its own logger for MLflow, which keeps checkpoints too."""

import os

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import MLFlowLogger
from torch.utils.data import DataLoader


class Line(lightning.LightningModule):
    def __init__(self, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, index):
        loss = ((self.layer(batch) - 2 * batch) ** 2).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


lightning.seed_everything(0)
logger = MLFlowLogger("lines", run_name="line", tracking_uri=os.environ["MLFLOW_TRACKING_URI"], log_model="all")
trainer = lightning.Trainer(
    max_epochs=3, accelerator="cpu", logger=logger, callbacks=[ModelCheckpoint("checkpoints", save_top_k=-1)],
    log_every_n_steps=1, enable_progress_bar=False,
)  # fmt: skip
trainer.fit(Line(), DataLoader(torch.arange(8.0).reshape(8, 1) / 8, batch_size=4))
