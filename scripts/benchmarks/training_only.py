"""The default sweep's training and nothing else, in as many processes as the sweep has workers.

Started with the folder of the data, the number of images and of epochs.
"""

import subprocess
import sys
from itertools import product

from sweeptrail.engines.processes.engine import available_cores
from sweeptrail.fashion_mnist import data


def main(data_dir: str, samples: str, epochs: str) -> None:
    """Start the processes, and wait for them."""
    count = min(available_cores(), 8)
    command = [sys.executable, "-m", "scripts.benchmarks.training_only", data_dir, samples, epochs]
    processes = [subprocess.Popen([*command, str(part), str(count)]) for part in range(count)]
    sys.exit(max(process.wait() for process in processes))


def train_part(data_dir: str, samples: int, epochs: int, part: int, count: int) -> None:
    """Train every `count`-th combination; they are listed so that all parts take equally long."""
    import torch

    from sweeptrail.fashion_mnist.batches import Loader, split
    from sweeptrail.fashion_mnist.networks import Network
    from sweeptrail.fashion_mnist.steps import keep_freed_memory, make_optimizer, train_step

    keep_freed_memory()
    torch.set_num_threads(1)
    splits = split(data.load(data_dir), train_samples=samples, validation_samples=0)
    combinations = list(product([100, 1000], [True, False], [0.01, 0.001]))
    for batch_size, shuffle, lr in combinations[part::count]:
        torch.manual_seed(0)
        network = Network()
        optimizer = make_optimizer("adam", network.parameters(), lr, 0)
        generator = torch.Generator().manual_seed(0)
        loader = Loader(splits.train, batch_size, shuffle=shuffle, generator=generator)
        for _ in range(epochs):
            for images, labels in loader:
                train_step(network, images, labels, optimizer)


if __name__ == "__main__":
    data_dir, samples, epochs, *rest = sys.argv[1:]
    if rest:
        train_part(data_dir, int(samples), int(epochs), *map(int, rest))
    else:
        main(data_dir, samples, epochs)
