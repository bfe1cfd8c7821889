"""What the batches of an epoch add up to."""

from typing import Any

from sweeptrail.errors import UsageError


class Counts:
    """The losses and the correct predictions of one epoch; nothing here loads torch but a tensor that it is given."""

    def __init__(self) -> None:
        self.samples = 0
        """How many samples the losses are of."""
        self._losses: list[tuple[Any, int]] = []
        self._corrects: list[Any] = []
        self._predictions = 0

    def add_loss(self, loss: Any, samples: int) -> None:
        """Count the mean loss, a tensor of one element or a number, of so many samples."""
        self.samples += samples
        # Kept as it is: reading it here would wait for the device at every batch.
        self._losses.append((loss.detach() if hasattr(loss, "detach") else loss, samples))

    def add_predictions(self, preds: Any, labels: Any) -> None:
        """Count which predictions are correct; raises UsageError for shapes that do not fit."""
        preds, labels = preds.detach(), labels.detach()
        self._corrects.append(_correct(preds, labels).sum())
        self._predictions += labels.numel()

    @property
    def total_loss(self) -> float:
        """The sum of the losses of all samples."""
        if not self._losses:
            return 0.0
        if all(hasattr(loss, "detach") for loss, _ in self._losses):
            import torch

            losses = torch.stack([loss.reshape(()) for loss, _ in self._losses]).double()
            return float(losses @ losses.new_tensor([samples for _, samples in self._losses]))
        return sum(float(loss) * samples for loss, samples in self._losses)

    @property
    def num_correct(self) -> int:
        """The number of correct predictions."""
        if not self._corrects:
            return 0
        import torch

        return int(torch.stack(self._corrects).sum())

    @property
    def loss(self) -> float | None:
        """The mean over the samples; None where no loss was counted."""
        return self.total_loss / max(self.samples, 1) if self._losses else None

    @property
    def accuracy(self) -> float | None:
        """Correct predictions divided by all; None where none were counted."""
        return self.num_correct / max(self._predictions, 1) if self._corrects else None


def _correct(preds: Any, labels: Any) -> Any:
    """Return for each label whether its prediction is right.

    `preds` are logits: one for each class, in dimension 1, or a single one for each label of two
    classes, which is positive for the class 1.
    """
    shapes = f"preds {tuple(preds.shape)} of {preds.dtype}, labels {tuple(labels.shape)}"
    if preds.is_floating_point() and preds.dim() == labels.dim() + 1 and preds.shape[1] > 1:
        if preds.shape[:1] + preds.shape[2:] == labels.shape:
            return preds.argmax(dim=1).eq(labels)
    elif preds.is_floating_point() and preds.numel() == labels.numel() and _squeezed(preds) == _squeezed(labels):
        return preds.gt(0).reshape(labels.shape).eq(labels)
    raise UsageError(
        f"track_num_correct: expected logits (batch, classes, ...) and labels (batch, ...), or one logit for each "
        f"label of two classes, got {shapes}; write the accuracy with manager.log(accuracy=...), say"
    )


def _squeezed(tensor: Any) -> tuple[int, ...]:
    """Return a shape without the dimension of a single logit."""
    shape = tuple(tensor.shape)
    return (shape[0], *shape[2:]) if len(shape) > 1 and shape[1] == 1 else shape


def samples_in_next_batch(loader: Any, seen: int) -> int:
    """Return how many samples the next batch has: only the last one of an epoch is shorter than the batch size.

    1 where the loader, which may be None, does not say its `batch_size`: then batches weigh the same.
    """
    size = getattr(loader, "batch_size", None) or 1  # a DataLoader with batch_size=None yields single samples
    try:
        remaining = len(loader.dataset) - seen
    except (TypeError, AttributeError):  # an iterable data set has no length
        return int(size)
    return min(size, remaining) if remaining > 0 else int(size)
