"""TensorBoard's sink, where there is TensorBoard."""

from collections.abc import Sequence

from sweeptrail.sink import Sink
from sweeptrail.system.extras import is_installed


def tensorboard_sinks(parent: str) -> Sequence[Sink]:
    """Return the sink that writes event files below `parent`; none where TensorBoard is not installed."""
    if not is_installed("tensorboard"):
        return []
    from sweeptrail.training.sinks.tensorboard import TensorBoard

    return [TensorBoard(parent)]
