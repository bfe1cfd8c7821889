"""One sweep's choices, validated and frozen."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sweeptrail.errors import SettingsError
from sweeptrail.search.space import Run, RunBuilder

TRAIN_IMAGES = 60_000
"""How many training images Fashion-MNIST has."""

LARGEST = 2**53
"""No number here needs to be larger, and up to here every whole number is exact everywhere."""

ENGINES = ("processes", "serial", "ray")
OPTIMIZERS = ("adam", "adamw", "sgd")
NETWORKS = ("Network",)
"""The built-in networks; any other is written `module:Class`."""

COLUMNS = ("lr", "batch_size", "shuffle")
"""The axes that are columns of the results even when they have a single value."""


@dataclass(frozen=True)
class RunSettings:
    """Everything that a single run is carried out with."""

    lr: float = 0.01
    batch_size: int = 100
    shuffle: bool = True
    optimizer: str = "adam"
    weight_decay: float = 0.0
    network: str = "Network"
    seed: int = 0
    epochs: int = 3
    train_samples: int | None = None
    """How many training images to use; None for all that are not held out."""
    validation_samples: int = 5000
    threads: int = 1
    device: str = "auto"


@dataclass(frozen=True)
class Settings:
    """Everything that a sweep is carried out with: the axes as tuples, the rest as single values."""

    lr: tuple[float, ...] = (0.01, 0.001)
    batch_size: tuple[int, ...] = (100, 1000)
    shuffle: tuple[bool, ...] = (True, False)
    optimizer: tuple[str, ...] = ("adam",)
    weight_decay: tuple[float, ...] = (0.0,)
    network: tuple[str, ...] = ("Network",)
    seed: tuple[int, ...] = (0,)
    epochs: int = 3
    train_samples: int | None = None
    validation_samples: int = 5000
    threads: int = 1
    device: str = "auto"
    engine: str = "processes"
    workers: int | None = None
    """How many runs at a time; None for as many as the machine has room for."""
    retries: int = 1
    """How often a run is tried again when its worker died."""
    gpus_per_run: float = 0.0
    """How many GPUs Ray keeps for a run; several runs share one when it is less than 1."""
    data_dir: str | None = None
    delivery_timeout: float = 10.0
    """Seconds to wait at the end for a tracking server that accepts nothing."""
    report: bool = True
    """Whether a page about the sweep is drawn at its end, which takes two seconds."""
    register: str | None = "fashion-mnist"
    """The registered model that the champion becomes a version of; None for no model."""
    log_models: str = "champion"
    """Of which runs the weights become a model on the tracking server, all or the champion's."""

    def grid(self) -> list[tuple[Run, RunSettings]]:
        """Return each combination twice: as the Run that people see, and with every setting."""
        axes = {name: getattr(self, name) for name in AXES}
        shared = {field.name: getattr(self, field.name) for field in fields(RunSettings) if field.name not in AXES}
        shown = {name: values for name, values in axes.items() if name in COLUMNS or len(values) > 1}
        single = {name: values[0] for name, values in axes.items() if name not in shown}
        return [
            (run, RunSettings(**dict(zip(shown, run, strict=True)), **single, **shared))
            for run in RunBuilder.get_runs(shown)
        ]


def parse(texts: Mapping[str, str]) -> Settings:
    """Return the settings that these texts stand for; names that are absent keep their defaults.

    >>> parse({"lr": "0.1,0.01", "train_samples": "all"}).lr
    (0.1, 0.01)

    Raises SettingsError with every mistake in every text.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, text in texts.items():
        try:
            values[name] = _parse_one(name, text)
        except ValueError as error:
            problems.append(str(error))
    problems += _sample_problems(values, texts)
    if problems:
        raise SettingsError(problems)
    return Settings(**values)


def as_text(settings: Settings) -> dict[str, str]:
    """Return each setting as a person would write it, which `parse` reads back."""
    return {field.name: _text(getattr(settings, field.name), field.name) for field in fields(settings)}


def _text(value: object, name: str) -> str:
    if isinstance(value, tuple):
        return ",".join(_text(item, name) for item in value)
    if value is None:
        return {"train_samples": "all", "register": "none"}.get(name, "auto")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.removesuffix(".0") if isinstance(value, float) else text


def unknown_name(name: str) -> str:
    """Return the sentence for a setting that does not exist, with the nearest that does."""
    near = difflib.get_close_matches(name, PARSERS, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; the settings are {', '.join(PARSERS)}"
    return f"{name}: there is no such setting{hint}"


def _parse_one(name: str, text: str) -> Any:
    if name not in PARSERS:
        raise ValueError(unknown_name(name))
    parser, expected, example = PARSERS[name]
    items = [item.strip() for item in text.split(",")] if name in AXES else [text.strip()]
    values = []
    for item in items:
        if not item:
            raise ValueError(f"{name}: expected {expected}, got an empty value in {text!r}; write {name}={example}")
        try:
            values.append(parser(item))
        except ValueError:
            raise ValueError(f"{name}: expected {expected}, got {item!r}; write {name}={example}") from None
    twice = [value for position, value in enumerate(values) if value in values[:position]]
    if twice:
        raise ValueError(f"{name}: {twice[0]} is given twice in {text!r}; write each value once")
    return tuple(values) if name in AXES else values[0]


def _sample_problems(values: Mapping[str, Any], texts: Mapping[str, str]) -> Iterable[str]:
    """What is wrong between settings that are each right."""
    if "batch_size" in texts and "batch_size" not in values:
        values = {**values, "batch_size": ()}  # its own mistake has been named
    held_out = values.get("validation_samples", Settings.validation_samples)
    available = TRAIN_IMAGES - held_out
    if available < 1:
        yield (
            f"validation_samples: expected less than the {TRAIN_IMAGES} training images, got {held_out}; "
            "write validation_samples=5000"
        )
        return
    wanted = values.get("train_samples") or available
    if wanted > available:
        yield (
            f"train_samples: expected at most {available}, which is {TRAIN_IMAGES} less validation_samples, "
            f"got {wanted}; write train_samples=all"
        )
        wanted = available
    too_big = [size for size in values.get("batch_size", Settings.batch_size) if size > wanted]
    if too_big:
        yield f"batch_size: expected at most the {wanted} training samples, got {max(too_big)}; write batch_size=100"


def _number(kind: Callable[[str], Any], at_least: float, *, above: bool = False) -> Callable[[str], Any]:
    def parse_number(text: str) -> Any:
        value = kind(text)
        if not at_least <= value <= LARGEST or (above and value == at_least) or "_" in text:
            raise ValueError  # also for nan, which is not between anything
        return value

    return parse_number


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse_choice(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError
        return text.lower()

    return parse_choice


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[_one_of(("true", "false"))(text)]


def _network(text: str) -> str:
    module, colon, cls = text.partition(":")
    is_own = colon and cls.isidentifier() and all(part.isidentifier() for part in module.split("."))
    if text not in NETWORKS and not is_own:
        raise ValueError
    return text


def _model_name(text: str) -> str:
    if set(text) & set("/:"):  # MLflow's registry takes none with these
        raise ValueError
    return text


def _device(text: str) -> str:
    kind, colon, number = text.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (colon and not (kind == "cuda" and number.isdecimal())):
        raise ValueError
    return text


def _or_none(word: str, parser: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text.lower() == word else parser(text)


PARSERS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "lr": (_number(float, 0, above=True), "positive numbers", "0.01,0.001"),
    "batch_size": (_number(int, 1), "whole numbers from 1", "100,1000"),
    "shuffle": (_boolean, "true or false", "true,false"),
    "optimizer": (_one_of(OPTIMIZERS), f"any of {', '.join(OPTIMIZERS)}", "adam"),
    "weight_decay": (_number(float, 0), "numbers from 0", "0,0.0001"),
    "network": (_network, f"{' or '.join(NETWORKS)}, or module:Class of your own", "Network"),
    "seed": (_number(int, 0), "whole numbers from 0", "0"),
    "epochs": (_number(int, 1), "a whole number from 1", "3"),
    "train_samples": (_or_none("all", _number(int, 1)), "a whole number from 1, or all", "all"),
    "validation_samples": (_number(int, 0), "a whole number from 0", "5000"),
    "threads": (_number(int, 1), "a whole number from 1", "1"),
    "device": (_device, "auto, cpu, cuda, cuda:0 or mps", "auto"),
    "engine": (_one_of(ENGINES), f"any of {', '.join(ENGINES)}", ENGINES[0]),
    "workers": (_or_none("auto", _number(int, 1)), "a whole number from 1, or auto", "auto"),
    "retries": (_number(int, 0), "a whole number from 0", "1"),
    "gpus_per_run": (_number(float, 0), "a number from 0", "0.5"),
    "data_dir": (_or_none("auto", str), "a folder with the four files of Fashion-MNIST, or auto", "auto"),
    "delivery_timeout": (_number(float, 0), "seconds from 0", "10"),
    "report": (_boolean, "true or false", "true"),
    "register": (_or_none("none", _model_name), "a name without / and :, or none", "fashion-mnist"),
    "log_models": (_one_of(("champion", "all")), "champion or all", "champion"),
}
"""For each setting: what turns text into a value, what is expected in words, an example."""

AXES = ("lr", "batch_size", "shuffle", "optimizer", "weight_decay", "network", "seed")
"""The settings that may be lists: the dimensions of the grid."""
