import os
import pickle

import numpy as np
import pytest

from sweeptrail.engines.carry_out import results
from sweeptrail.engines.processes.engine import Processes
from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.errors import SweeptrailError
from sweeptrail.system.shared_arrays import Array, _descriptors, pack, share, unpack
from tests import engine_works as works

ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    np.arange(24.0).reshape(4, 6).T,
    np.array(7),
    np.zeros((0, 28, 28), np.uint8),
    np.array(["2020-01-01"], "datetime64[D]"),
    np.array([(1, 2.5)], [("label", "u1"), ("weight", "f8")]),
]


def packed_and_unpacked(value: object) -> object:
    with pack(value) as descriptors:
        return unpack(descriptors)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_an_array_arrives_as_it_was(array: Array) -> None:
    arrived = packed_and_unpacked({"images": share(array)})
    assert isinstance(arrived, dict)
    images = arrived["images"]
    assert (images.dtype, images.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(images, array)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_a_plain_pickle_carries_the_bytes(array: Array) -> None:
    copy = pickle.loads(pickle.dumps(share(array)))
    assert id(copy) not in _descriptors
    np.testing.assert_array_equal(copy, array)


def test_an_array_that_is_not_shared_can_be_packed_too() -> None:
    for array in (ARRAYS[0], share(ARRAYS[0])[1:]):
        copy = packed_and_unpacked(array)
        assert isinstance(copy, np.ndarray)
        np.testing.assert_array_equal(copy, array)


def test_workers_read_the_same_memory_and_cannot_disturb_each_other() -> None:
    shared = share(np.ones(32 << 20, np.uint8))
    assert shared.sum() == 32 << 20  # this process has mapped all of it from here on
    found = list(results(Processes(2, 1, ForkServer(())), works.ReadAll(shared), works.jobs(2)))
    assert [result.error for result in found] == [None, None]
    for result in found:
        assert result.metrics["total"] == 32 << 20
        assert result.metrics["Rss"] >= 32 << 10
        assert result.metrics["Pss"] <= result.metrics["Rss"] * 0.51
    assert shared[0] == 1


@pytest.mark.parametrize("has_memory_files", [True, False])
def test_shared_memory_has_no_name_so_that_nothing_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, has_memory_files: bool
) -> None:
    if not has_memory_files:
        monkeypatch.delattr(os, "memfd_create")
    shared = share(ARRAYS[0])
    assert os.fstat(_descriptors[id(shared)]).st_nlink == 0
    np.testing.assert_array_equal(shared, ARRAYS[0])


def test_shared_memory_is_given_back_with_the_last_reference() -> None:
    shared = share(ARRAYS[0])
    descriptor = _descriptors[id(shared)]
    del shared
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_an_array_of_objects_is_refused() -> None:
    with pytest.raises(ValueError, match=r"write array\.astype"):
        share(np.array([{}]))


def test_a_value_that_cannot_be_pickled_is_refused() -> None:
    with pytest.raises(SweeptrailError, match="cannot be sent to another process"):
        packed_and_unpacked(lambda: None)
