"""scikit-learn, logged by MLflow itself: a search over a grid, with a run for each of its best combinations."""

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

mlflow.set_experiment("irises")
mlflow.sklearn.autolog(extra_tags={"flowers": "yes"})
x, y = load_iris(return_X_y=True, as_frame=True)
with mlflow.start_run(run_name="search"):
    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0]}, cv=2)
    search.fit(x, y)
    mlflow.log_metric("held_out", search.score(x[::2], y[::2]))
