"""Optuna: a run for each trial, nested in one for the study, and another by its own callback."""

import mlflow
import optuna
from optuna_integration.mlflow import MLflowCallback


def objective(trial):
    with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
        x = trial.suggest_float("x", -3, 3)
        mlflow.log_params(trial.params)
        for step in range(3):
            mlflow.log_metric("loss", (x - step) ** 2, step=step)
        mlflow.log_text(f"{x:.3f}\n", "x.txt")
        return (x - 2) ** 2


mlflow.set_experiment("parabola")
with mlflow.start_run(run_name="study"):
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    callback = MLflowCallback(metric_name="value", create_experiment=False, mlflow_kwargs={"nested": True})
    study.optimize(objective, n_trials=3, callbacks=[callback])
    mlflow.log_metric("best", study.best_value)
    mlflow.log_dict(study.best_params, "best.json")
