"""Batches hold the numbers that torchvision would give, and looking at them changes no training."""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from sweeptrail.errors import DataError, SettingsError
from sweeptrail.fashion_mnist.batches import Images, Loader, split
from sweeptrail.fashion_mnist.data import FashionMnist, load
from sweeptrail.training.sinks.first_batch import first_batch


@cache
def published() -> FashionMnist:
    return load()


def images(number: int, indices: Tensor | None = None) -> Images:
    """Images in which every byte occurs, each different from the others; the labels are 0 to 9 in turn."""
    pixels = torch.arange(number * 784) % 256
    pixels[::784] = torch.arange(number) % 256
    return Images(pixels.to(torch.uint8).view(-1, 28, 28), (torch.arange(number) % 10).to(torch.uint8), indices)


def small_data(labels: list[int]) -> FashionMnist:
    pixels = np.zeros((len(labels), 28, 28), np.uint8)
    return FashionMnist(pixels, np.array(labels, np.uint8), pixels, np.array(labels, np.uint8), "", "")


def indices_of(part: Images | None) -> Tensor:
    assert part is not None
    assert part.indices is not None
    return part.indices


@pytest.mark.slow
def test_an_image_is_bit_for_bit_what_totensor_makes_of_it() -> None:
    from torchvision.transforms import ToTensor  # loading it takes longer than all that is tested here

    dataset = images(3)
    image, label = dataset[1]
    expected = ToTensor()(dataset.images[1].numpy())
    assert torch.equal(image, expected)
    assert image.dtype == expected.dtype
    assert image.shape == (1, 28, 28)
    assert label == 1
    assert type(label) is int


SUBSETS = [None, torch.tensor([7, 3, 3, 0, 9, 2])]


@pytest.mark.parametrize("indices", SUBSETS)
@pytest.mark.parametrize("positions", [slice(1, 4), torch.tensor([5, 0, 2])])
def test_a_batch_is_its_images_one_by_one(indices: Tensor | None, positions: slice | Tensor) -> None:
    dataset = images(10, indices)
    batch, labels = dataset.batch(positions)
    chosen = [dataset[int(position)] for position in torch.arange(len(dataset))[positions]]
    assert torch.equal(batch, torch.stack([image for image, _ in chosen]))
    assert labels.tolist() == [label for _, label in chosen]
    assert labels.dtype == torch.int64


@pytest.mark.parametrize("indices", SUBSETS)
def test_the_images_end_after_the_last(indices: Tensor | None) -> None:
    dataset = images(10, indices)
    assert len(dataset) == (10 if indices is None else 6)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_a_subset_shares_the_memory_of_the_whole() -> None:
    whole = images(10)
    subset = Images(whole.images, whole.labels, torch.tensor([1, 2]))
    assert subset.images.data_ptr() == whole.images.data_ptr()
    assert subset.labels.data_ptr() == whole.labels.data_ptr()


@pytest.mark.parametrize("indices", SUBSETS)
@pytest.mark.parametrize("batch_size", [1, 4, 5, 100])
def test_an_unshuffled_loader_yields_what_torchs_yields(indices: Tensor | None, batch_size: int) -> None:
    dataset = images(10, indices)
    ours, torchs = Loader(dataset, batch_size), DataLoader(dataset, batch_size)
    assert len(ours) == len(torchs)
    for (image, label), (expected_image, expected_label) in zip(ours, torchs, strict=True):
        assert torch.equal(image, expected_image)
        assert torch.equal(label, expected_label)


@pytest.mark.parametrize("indices", SUBSETS)
@pytest.mark.parametrize("own", [True, False])
def test_a_shuffled_loader_yields_each_image_once_in_the_order_of_its_generator(
    own: bool, indices: Tensor | None
) -> None:
    dataset = images(10, indices)
    torch.manual_seed(7)
    generator = torch.Generator().manual_seed(7) if own else None
    loader = Loader(dataset, 4, shuffle=True, generator=generator)
    epochs = [torch.cat([labels for _, labels in loader]) for _ in range(2)]
    generator = torch.Generator().manual_seed(7)
    for labels in epochs:
        assert torch.equal(labels, dataset.batch(torch.randperm(len(dataset), generator=generator))[1])
    assert not torch.equal(*epochs)


def test_a_generator_put_back_to_its_state_after_an_epoch_goes_on_with_the_next() -> None:
    generator, fresh = torch.Generator().manual_seed(0), torch.Generator()
    loader = Loader(images(50), 8, shuffle=True, generator=generator)
    list(loader)
    fresh.set_state(generator.get_state())
    expected = torch.cat([labels for _, labels in loader])
    resumed = Loader(images(50), 8, shuffle=True, generator=fresh)
    assert torch.equal(torch.cat([labels for _, labels in resumed]), expected)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_belongs_to_whoever_got_it(shuffle: bool) -> None:
    dataset = images(10)
    before = dataset.batch(slice(None))
    for batch, labels in list(Loader(dataset, 4, shuffle=shuffle)):
        batch.zero_()
        labels.zero_()
    assert all(torch.equal(old, new) for old, new in zip(before, dataset.batch(slice(None)), strict=True))
    addresses = [batch.data_ptr() for batch, _ in [*Loader(dataset, 4, shuffle=shuffle)]]
    assert len(set(addresses)) == 3


@pytest.mark.parametrize("indices", SUBSETS)
def test_batches_lie_on_the_device_of_the_images_wherever_indices_and_generator_lie(indices: Tensor | None) -> None:
    with FakeTensorMode() as mode:  # tensors without numbers may claim any device, and must not be mixed
        pixels, labels = (mode.from_tensor(tensor).to("cuda") for tensor in (images(10).images, images(10).labels))
        dataset = Images(pixels, labels, None if indices is None else mode.from_tensor(indices))
        loader = Loader(dataset, 4, shuffle=True, generator=torch.Generator())
        assert {tensor.device.type for batch in loader for tensor in batch} == {"cuda"}


def test_the_article_setting_is_the_files_order_without_indices() -> None:
    train, validation, test = split(published(), train_samples=None, validation_samples=0)
    assert (train.indices, validation, test.indices) == (None, None, None)
    assert (len(train), len(test)) == (60_000, 10_000)
    batch, labels = next(iter(Loader(train, 100)))
    assert torch.equal(batch.mul(255).round().to(torch.uint8).squeeze(1), torch.tensor(published().train_images[:100]))
    assert labels.tolist() == published().train_labels[:100].tolist()


def test_splits_are_disjoint_ascending_and_have_every_class_alike() -> None:
    train, validation, _ = split(published(), train_samples=20_000, validation_samples=5000)
    kept, held_out = indices_of(train), indices_of(validation)
    labels = torch.tensor(published().train_labels)
    assert labels[held_out].bincount().tolist() == [500] * 10
    assert labels[kept].bincount().tolist() == [2000] * 10
    assert len(torch.cat([kept, held_out]).unique()) == 25_000
    assert all(torch.equal(indices, indices.sort().values) for indices in (kept, held_out))


@pytest.mark.slow
def test_all_that_is_not_held_out_is_trained_on() -> None:
    train, validation, _ = split(published(), train_samples=None, validation_samples=5000)
    assert torch.cat([indices_of(train), indices_of(validation)]).unique().tolist() == list(range(60_000))


def test_the_held_out_images_are_the_same_for_ever_and_cost_no_random_number() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = indices_of(split(published(), train_samples=None, validation_samples=5000).validation)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = indices_of(split(published(), train_samples=100, validation_samples=5000).validation)
    assert torch.equal(first, again)
    assert (first[:5].tolist(), int(first.sum())) == PINNED, "every result ever tracked depends on this choice"


PINNED = ([5, 22, 25, 56, 66], 149_855_323)


@pytest.mark.parametrize("validation_samples", range(1, 17))
def test_a_number_that_does_not_divide_goes_to_the_largest_remainders(validation_samples: int) -> None:
    labels = [0] * 10 + [1] * 5 + [2] * 2
    _, validation, _ = split(small_data(labels), train_samples=None, validation_samples=validation_samples)
    counts = torch.tensor(labels)[indices_of(validation)].bincount(minlength=3).tolist()
    exact = [validation_samples * labels.count(label) / len(labels) for label in range(3)]
    above = [share - int(share) for share, count in zip(exact, counts, strict=True) if count > int(share)]
    below = [share - int(share) for share, count in zip(exact, counts, strict=True) if count == int(share)]
    assert sum(counts) == validation_samples
    assert all(abs(count - share) < 1 for count, share in zip(counts, exact, strict=True))
    assert min(above, default=1) >= max(below, default=0)


@pytest.mark.parametrize(("train_samples", "validation_samples"), [(None, 20), (None, -1), (0, 5), (16, 5), (21, 0)])
def test_more_images_than_there_are_is_an_error(train_samples: int | None, validation_samples: int) -> None:
    with pytest.raises(SettingsError, match=f"at most 20 .* got {train_samples} and {validation_samples}; write"):
        split(small_data([0, 1] * 10), train_samples=train_samples, validation_samples=validation_samples)


def test_read_only_memory_is_used_where_it_lies(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.ones((6, 28, 28), np.uint8))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    labels = np.array([0, 1, 0, 1, 0, 1], np.uint8)
    labels.setflags(write=False)
    train, _, test = split(
        FashionMnist(mapped, labels, mapped, labels, "", ""), train_samples=None, validation_samples=2
    )
    assert train.images.data_ptr() == test.images.data_ptr() == mapped.ctypes.data
    assert train.labels.data_ptr() == labels.ctypes.data
    assert next(iter(Loader(train, 4)))[0].sum() == pytest.approx(4 * 784 / 255)


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Images that random numbers of every kind go into, as augmentation does it."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, position: int | list[int]) -> tuple[Tensor, Tensor]:
        return torch.rand(3) + random.random() + np.random.rand(), torch.tensor(position)


LOADERS: dict[str, Callable[[], Any]] = {
    "ours": lambda: Loader(images(10), 4),
    "ours, shuffled": lambda: Loader(images(10), 4, shuffle=True),
    "ours, generator": lambda: Loader(images(10), 4, shuffle=True, generator=torch.Generator().manual_seed(1)),
    "torch's": lambda: DataLoader(Noisy(), 4),
    "torch's, shuffled": lambda: DataLoader(Noisy(), 4, shuffle=True),
    "torch's, generator": lambda: DataLoader(Noisy(), 4, shuffle=True, generator=torch.Generator().manual_seed(1)),
    "torch's, sampler": lambda: DataLoader(
        Noisy(), 4, sampler=RandomSampler(Noisy(), generator=torch.Generator().manual_seed(1))
    ),
    "torch's, batches from the sampler": lambda: DataLoader(
        Noisy(),
        batch_size=None,
        sampler=BatchSampler(RandomSampler(Noisy(), generator=torch.Generator().manual_seed(1)), 4, False),
    ),
    "torch's, batch sampler": lambda: DataLoader(
        Noisy(),
        batch_sampler=BatchSampler(RandomSampler(Noisy(), generator=torch.Generator().manual_seed(1)), 4, False),
    ),
    "torch's, workers that stay": lambda: DataLoader(
        images(10), 4, shuffle=True, num_workers=1, persistent_workers=True, multiprocessing_context="fork"
    ),
}


def seed_everything() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", LOADERS)
def test_the_first_batch_is_the_trainings_own_and_costs_it_no_random_number(kind: str) -> None:
    seed_everything()
    untouched = LOADERS[kind]()
    expected = [batch for _ in range(2) for batch in untouched]
    seed_everything()
    loader = LOADERS[kind]()
    first = first_batch(loader)
    batches = [batch for _ in range(2) for batch in loader]
    assert first is not None
    assert torch.equal(first, expected[0][0])
    for (image, label), (expected_image, expected_label) in zip(batches, expected, strict=True):
        assert torch.equal(image, expected_image)
        assert torch.equal(label, expected_label)


def test_a_loader_that_breaks_leaves_the_random_state_as_it_was() -> None:
    state = torch.get_rng_state()

    def break_off(items: list[Any]) -> None:
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="on fire"):
        first_batch(DataLoader(Noisy(), 4, shuffle=True, collate_fn=break_off))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_may_hold_more_than_images_and_labels() -> None:
    batch = torch.zeros(2, 1, 28, 28), torch.zeros(2), torch.ones(2)
    assert first_batch([batch]) is batch[0]


def test_a_loader_without_a_batch_is_an_error() -> None:
    with pytest.raises(DataError, match=r"expected at least one batch, got none from \[\]"):
        first_batch([])
