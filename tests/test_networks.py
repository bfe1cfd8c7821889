"""Networks are found by name, and what is wrong with one is said in one line."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeptrail.errors import SettingsError
from sweeptrail.fashion_mnist.networks import BUILT_IN, Network, create
from sweeptrail.fashion_mnist.settings import NETWORKS


class Article(nn.Module):
    """The network as the article writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels=1, out_channels=6, kernel_size=5)
        self.conv2 = nn.Conv2d(in_channels=6, out_channels=12, kernel_size=5)
        self.fc1 = nn.Linear(in_features=12 * 4 * 4, out_features=120)
        self.fc2 = nn.Linear(in_features=120, out_features=60)
        self.out = nn.Linear(in_features=60, out_features=10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.max_pool2d(functional.relu(self.conv1(images)), kernel_size=2, stride=2)
        hidden = functional.max_pool2d(functional.relu(self.conv2(hidden)), kernel_size=2, stride=2)
        hidden = functional.relu(self.fc1(hidden.reshape(-1, 12 * 4 * 4)))
        logits: Tensor = self.out(functional.relu(self.fc2(hidden)))
        return logits


SOURCE = """
import torch
from torch import nn

drawn_at_import = torch.rand(7)

class Wide(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(784, width), nn.BatchNorm1d(width), nn.Dropout(), nn.Linear(width, 10)
        )

    def forward(self, images):
        return self.layers(images)

class Sized(Wide):
    def __init__(self, width, depth, *, slope=0.1):
        super().__init__(width)

class Raising(Wide):
    def __init__(self):
        raise ValueError("two\\nlines")

class Nine(Wide):
    def forward(self, images):
        return super().forward(images)[:, :9]

class Pair(Wide):
    def forward(self, images):
        return super().forward(images), 0

class Flat(Wide):
    def forward(self, images):
        return self.layers[1](images)

class NoModule:
    pass

number = 3
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current folder, which is not on the path; a new one for each test."""
    name = f"nets_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


def problem(name: str) -> str:
    with pytest.raises(SettingsError) as caught:
        create(name)
    (text,) = caught.value.problems
    assert "\n" not in text
    assert repr(name) in text
    return text


def test_the_built_in_networks_are_those_of_the_settings() -> None:
    assert tuple(BUILT_IN) == NETWORKS


def test_the_network_begins_with_the_articles_weights() -> None:
    torch.manual_seed(0)
    theirs = Article().state_dict()
    torch.manual_seed(0)
    ours = create("Network").state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_network_has_32998_parameters() -> None:
    assert sum(parameter.numel() for parameter in Network().parameters()) == 32_998


@pytest.mark.parametrize("samples", [1, 3, 100])
def test_the_network_computes_what_the_articles_computes(samples: int) -> None:
    article, network = Article(), Network()
    network.load_state_dict(article.state_dict())
    images = torch.rand(samples, 1, 28, 28)
    torch.testing.assert_close(network(images), article(images))


def test_an_own_network_is_found_in_the_current_folder(nets: str) -> None:
    assert create(f"{nets}:Wide")(torch.zeros(4, 1, 28, 28)).shape == (4, 10)


def test_creating_draws_the_random_numbers_of_the_constructor_alone(nets: str) -> None:
    torch.manual_seed(0)
    first = create(f"{nets}:Wide")
    after_first = torch.rand(3)
    torch.manual_seed(0)
    second = type(first)()
    assert torch.equal(after_first, torch.rand(3))
    assert all(torch.equal(first.state_dict()[name], value) for name, value in second.state_dict().items())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Netwrok", "Network, or module:Class of your own, got 'Netwrok'; write network=Network"),
        (":Wide", "module:Class"),
        ("nets:", "module:Class"),
        ("no_such_module:Wide", "there is no module no_such_module; write it as the file's name without .py"),
        ("sweeptrail.no_such_module:Wide", "there is no module sweeptrail.no_such_module"),
    ],
)
def test_a_name_that_names_nothing_is_refused(name: str, words: str) -> None:
    assert words in problem(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Wied", "did you mean {}:Wide?"),
        ("Quite", "write one of Wide, Sized, Raising, Nine, Pair, Flat"),
        ("NoModule", "write class NoModule(torch.nn.Module)"),
        ("number", "expected a class derived from torch.nn.Module"),
        ("Sized", "write a default for width, depth"),
        ("Raising", "it failed with ValueError: two lines; make this work"),
        ("Nine", "it returned 2 x 9; end in nn.Linear(..., 10)"),
        ("Pair", "it returned a tuple; return the logits alone"),
        ("Flat", "expected logits of 2 x 10 for images of 2 x 1 x 28 x 28"),
    ],
)
def test_a_class_that_is_no_such_network_is_refused(nets: str, name: str, words: str) -> None:
    assert words.format(nets) in problem(f"{nets}:{name}")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_fails_when_imported_is_refused(nets: str, source: str, words: str) -> None:
    Path(f"{nets}_broken.py").write_text(source)
    assert f"importing it failed with {words}" in problem(f"{nets}_broken:Wide")
