"""scikit-learn, one value at the end: sweeptrail sweep digits:svc C=0.1,1,10 kernel=rbf,linear"""

from typing import Literal

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC


def prepare():
    """Make the data, once on each machine."""
    images, labels = load_digits(return_X_y=True)
    names = ("images", "held_out", "labels", "held_out_labels")
    return dict(zip(names, train_test_split(images, labels, test_size=0.3, random_state=0), strict=True))


def svc(manager, *, C: float = 1.0, kernel: Literal["rbf", "linear", "poly"] = "rbf"):  # noqa: N803  # as in scikit-learn
    """Learn the digits with a support vector machine."""
    learn(manager, SVC(C=C, kernel=kernel))


def forest(manager, *, num_trees: int = 100, max_depth: int | None = None, seed: int = 0):
    """Learn them with a random forest: sweeptrail sweep digits:forest num_trees=10,100 max_depth=none,5"""
    learn(manager, RandomForestClassifier(num_trees, max_depth=max_depth, random_state=seed))


def learn(manager, model):
    data = manager.shared
    model.fit(data["images"], data["labels"])
    manager.log(validation_accuracy=model.score(data["held_out"], data["held_out_labels"]))
