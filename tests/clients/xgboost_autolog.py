"""XGBoost, logged by MLflow itself."""

import mlflow
import xgboost
from sklearn.datasets import load_iris

mlflow.set_experiment("trees")
mlflow.xgboost.autolog()
x, y = load_iris(return_X_y=True, as_frame=True)
data = xgboost.DMatrix(x, y)
parameters = {"objective": "multi:softprob", "num_class": 3, "max_depth": 2, "seed": 0, "nthread": 1}
with mlflow.start_run(run_name="trees"):
    xgboost.train(parameters, data, num_boost_round=5, evals=[(data, "train")])
