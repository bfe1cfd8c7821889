"""Lightning without a logger, logged by MLflow itself."""

import lightning
import mlflow
import torch
from torch.utils.data import DataLoader


class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, batch):
        return self.layer(batch)

    def training_step(self, batch, index):
        loss = ((self(batch) - 2 * batch) ** 2).mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


lightning.seed_everything(0)
mlflow.set_experiment("lines")
mlflow.pytorch.autolog(checkpoint_save_best_only=False)
trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False)
with mlflow.start_run():
    trainer.fit(Line(), DataLoader(torch.arange(8.0).reshape(8, 1) / 8, batch_size=4))
