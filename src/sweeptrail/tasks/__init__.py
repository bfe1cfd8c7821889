"""What runs train: a function of hyperparameters, anybody's."""
