"""Networks, by name."""

import difflib
import inspect
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeptrail.errors import SettingsError, UsageError, one_line
from sweeptrail.fashion_mnist.kernels import conv_relu_pool
from sweeptrail.fashion_mnist.settings import NETWORKS
from sweeptrail.tasks.code import import_module


class Network(nn.Module):
    """The article's network: float32 B x 1 x 28 x 28 to logits B x 10, with 32,998 parameters."""

    independent_samples: ClassVar[bool] = True
    """No sample of a batch influences another and no random number is drawn, so a large batch may be
    computed in slices. A network of your own says so in its own class, or is computed whole."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 12, kernel_size=5)
        self.fc1 = nn.Linear(12 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 60)
        self.out = nn.Linear(60, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = conv_relu_pool(images, self.conv1)
        hidden = conv_relu_pool(hidden, self.conv2)
        hidden = functional.relu(self.fc1(hidden.flatten(1)))
        hidden = functional.relu(self.fc2(hidden))
        return self.out(hidden)  # type: ignore[no-any-return]  # torch does not type what calling a module returns


BUILT_IN: dict[str, type[nn.Module]] = {"Network": Network}


def create(name: str) -> nn.Module:
    """Return a new network: a built-in one, or `module:Class` of the user's own.

    Draws the random numbers that `Class()` draws and no others. Raises SettingsError when there is
    no such class, or when it is not a network for 28 x 28 images of ten classes.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]()
    with torch.random.fork_rng(devices=[]):
        network = _find(name)
        _try(name, network)
    return network()


def _find(name: str) -> type[nn.Module]:
    """Return the class that `module:Class` stands for."""
    module_name, colon, class_name = name.partition(":")
    if not (module_name and colon and class_name):
        raise _problem(name, f"{' or '.join(NETWORKS)}, or module:Class of your own", "write network=Network")
    try:
        module = import_module(module_name, f"network: expected a module that can be imported, got {name!r}")
    except UsageError as error:
        raise SettingsError(str(error)) from error
    found = getattr(module, class_name, None)
    if found is None:
        raise _problem(name, f"a class that {module_name} has", _nearest(module, class_name))
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise _problem(name, "a class derived from torch.nn.Module", f"write class {class_name}(torch.nn.Module)")
    parameters = inspect.signature(found).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if needed:
        raise _problem(name, "a constructor without arguments", f"write a default for {', '.join(needed)}")
    return found


def _nearest(module: ModuleType, class_name: str) -> str:
    """Return the hint for a class that a module has not."""
    classes = [key for key, value in vars(module).items() if inspect.isclass(value) and issubclass(value, nn.Module)]
    near = difflib.get_close_matches(class_name, classes, n=1)
    if near:
        return f"did you mean {module.__name__}:{near[0]}?"
    return f"write one of {', '.join(classes)}" if classes else "write a class derived from torch.nn.Module there"


def _try(name: str, network: type[nn.Module]) -> None:
    """Raise SettingsError unless the network, another instance of it, classifies two images."""
    expected = "logits of 2 x 10 for images of 2 x 1 x 28 x 28"
    try:
        with torch.no_grad():
            logits = network()(torch.zeros(2, 1, 28, 28))
    except Exception as error:
        raise _problem(name, expected, f"it failed with {one_line(error)}; make this work") from error
    if not isinstance(logits, Tensor):
        raise _problem(name, expected, f"it returned a {type(logits).__name__}; return the logits alone")
    if logits.shape != (2, 10):
        raise _problem(name, expected, f"it returned {' x '.join(map(str, logits.shape))}; end in nn.Linear(..., 10)")


def _problem(name: str, expected: str, cure: str) -> SettingsError:
    return SettingsError(f"network: expected {expected}, got {name!r}; {cure}")
