"""Lightning inside a run, with its own logger and with MLflow's autologging."""

from pathlib import Path

import pytest

from tests.inside_run import WORKER, alone, deliver

LIGHTNING = """
import torch

def fit(run, epochs=2, **how):
    import lightning

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"width": 1})
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, index):
            loss = ((self.layer(batch) - 2 * batch) ** 2).mean()
            self.log("train_loss", loss, on_step=False, on_epoch=True)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    x = torch.utils.data.DataLoader(torch.arange(8.0).reshape(8, 1) / 8, batch_size=4)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", default_root_dir=sweep / "own", enable_progress_bar=False,
        enable_model_summary=False, **how
    )
    trainer.fit(Line(), x)
"""


@pytest.mark.heavy
def test_lightnings_logger_writes_to_the_run(tmp_path: Path) -> None:
    code = """
def first(run):
    from lightning.pytorch.loggers import MLFlowLogger
    fit(run, logger=MLFlowLogger(run_id=run.run_id, log_model=True), log_every_n_steps=1)

def second(run):
    from lightning.pytorch.loggers import MLFlowLogger
    fit(run, logger=MLFlowLogger(run_name="mine"), log_every_n_steps=1)

carry_out(1, first)
carry_out(2, second)
"""
    done = alone(WORKER + LIGHTNING + code, tmp_path / "sweep")
    assert done.returncode == 0, done.stderr
    client, runs = deliver(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "sweep")
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    for run in runs:
        assert run.data.params == {"lr": "0.1", "width": "1"}
        assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 2
    checkpoint = {item.path for item in client.list_artifacts(runs[0].info.run_id, "epoch=1-step=4")}
    assert "epoch=1-step=4/epoch=1-step=4.ckpt" in checkpoint
    assert not (tmp_path / "sweep" / "mlruns").exists()


@pytest.mark.heavy
def test_autologging_of_lightning_writes_to_the_run(tmp_path: Path) -> None:
    code = """
def first(run):
    import mlflow
    mlflow.pytorch.autolog()
    fit(run, logger=False)

carry_out(1, first)
carry_out(2, lambda run: fit(run, epochs=3, logger=False))
"""
    done = alone(WORKER + LIGHTNING + code, tmp_path / "sweep")
    assert done.returncode == 0, done.stderr
    assert "without an active run" not in done.stderr
    client, runs = deliver(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "sweep")
    assert [len(client.get_metric_history(run.info.run_id, "train_loss")) for run in runs] == [2, 3]
    assert [run.data.params["epochs"] for run in runs] == ["2", "3"]
    for run in runs:
        assert {"model", "model_summary.txt"} <= {item.path for item in client.list_artifacts(run.info.run_id)}
