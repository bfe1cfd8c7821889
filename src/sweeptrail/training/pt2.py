"""Computes the network in a pt2 archive without evaluating anything that the archive says.

`torch.export.load` is not for files of strangers: torch 2.14 gives sizes of the archive to `eval` (through
sympy) and guards to `exec`, takes any attribute of torch for an operation, and unpickles the example
inputs. MLflow 3.17 looks for pickles only, and runs the rest even where it is told not to load any. Here
numbers are read as numbers, and nothing but operators of aten is called.
"""

import json
import operator
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sweeptrail.errors import UsageError, one_line

OPERATOR = re.compile(r"torch\.ops\.aten\.([a-z]\w*)\.(\w+)")
"""Without those that begin with an underscore, which trust their callers."""
ASSERTION = "torch.ops.aten._assert_tensor_metadata.default"
"""Has no result, and can be left out."""
ARITHMETIC = {f"_operator.{name}": getattr(operator, name) for name in ("add", "sub", "mul", "floordiv")}
"""What a network may do with the sizes of its tensors."""

DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
"""ScalarType of torch/_export/serde/schema.py."""

LITERALS = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string")
KEYWORD = 2
"""ArgumentKind of torch/_export/serde/schema.py."""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One operation: its results get these names."""

    function: Callable[..., Any]
    arguments: Sequence[Mapping[str, Any]]
    results: Sequence[str]


@dataclass(frozen=True)
class Program:
    """A network of one input and one output."""

    constants: Values
    """Weights and buffers by the names that the steps use."""
    input: str
    steps: Sequence[Step]
    output: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network makes of a batch."""
        values = {**self.constants, self.input: images}
        with torch.no_grad():
            for step in self.steps:
                result = step.function(*_positional(step, values), **_by_keyword(step, values))
                results = result if len(step.results) > 1 else [result]
                values.update(zip(step.results, results, strict=True))
        return values[self.output]  # type: ignore[no-any-return]  # one of the tensors


def read(path: Path) -> Program:
    """Return the network in an archive; raises UsageError for what is damaged, pickled, or not plain aten."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path.stat().st_size)
            return _program(archive)
    except UsageError:
        raise
    except Exception as error:  # whatever a crafted archive makes zipfile, json or torch raise
        problem = one_line(error, 200)
        raise UsageError(
            f"{path}: expected a network as torch.export saves it, got a damaged one ({problem})"
        ) from error


def _check_size(archive: zipfile.ZipFile, size: int) -> None:
    """Raise ValueError where an archive would unpack to more than it is: torch compresses nothing."""
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its parts are larger than the whole")


def _program(archive: zipfile.ZipFile) -> Program:
    root = archive.namelist()[0].partition("/")[0]
    saved = json.loads(archive.read(f"{root}/models/model.json"))["graph_module"]
    weights = {
        **_tensors(archive, f"{root}/data/weights", "model_weights_config.json"),
        **_tensors(archive, f"{root}/data/constants", "model_constants_config.json"),
    }
    constants, images = {}, []
    for spec in saved["signature"]["input_specs"]:
        [(kind, given)] = spec.items()
        if kind == "user_input":
            images.append(_name(given["arg"]))
        else:  # a parameter, a buffer, a tensor_constant
            constants[given["arg"]["name"]] = weights[given[f"{kind}_name"]]
    outputs = [_name(spec["user_output"]["arg"]) for spec in saved["signature"]["output_specs"]]
    [image], [output] = images, outputs
    steps = [_step(node) for node in saved["graph"]["nodes"] if node["target"] != ASSERTION]
    return Program(constants, image, steps, output)


def _tensors(archive: zipfile.ZipFile, folder: str, config: str) -> dict[str, Tensor]:
    """Return the tensors that lie in a folder of the archive as raw bytes."""
    tensors, contents = {}, dict[str, bytearray]()
    for name, entry in json.loads(archive.read(f"{folder}/{config}"))["config"].items():
        if entry["use_pickle"]:
            raise UsageError(f"{archive.filename}: {name!r} is a pickle, which may run any code; it is not loaded")
        meta = entry["tensor_meta"]
        file = f"{folder}/{entry['path_name']}"
        if file not in contents:  # one that many names share is in memory once
            contents[file] = bytearray(archive.read(file))
        flat = torch.frombuffer(contents[file], dtype=DTYPES[meta["dtype"]])
        sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
        tensors[name] = flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"])
    return tensors


def _step(node: Mapping[str, Any]) -> Step:
    return Step(_function(node["target"]), node["inputs"], [_name(output) for output in node["outputs"]])


def _function(target: str) -> Callable[..., Any]:
    if target in ARITHMETIC:
        return ARITHMETIC[target]  # type: ignore[no-any-return]  # functions of `operator`
    if found := OPERATOR.fullmatch(target):
        overload = getattr(getattr(torch.ops.aten, found[1], None), found[2], None)
        if isinstance(overload, torch._ops.OpOverload) and not _uses_files(overload):
            return overload
    raise UsageError(
        f"the network uses {target[:100]!r}, which is not among the operations that are loaded from a file"
    )


def _uses_files(overload: torch._ops.OpOverload) -> bool:
    return any(argument.name == "filename" for argument in overload._schema.arguments)


def _positional(step: Step, values: Values) -> list[Any]:
    return [_value(given["arg"], values) for given in step.arguments if given["kind"] != KEYWORD]


def _by_keyword(step: Step, values: Values) -> dict[str, Any]:
    return {given["name"]: _value(given["arg"], values) for given in step.arguments if given["kind"] == KEYWORD}


def _value(argument: Mapping[str, Any], values: Values) -> Any:
    """Return what an argument stands for."""
    [(kind, given)] = argument.items()
    if kind in LITERALS:
        return given
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return values[given["name"]]
        case "as_tensors":
            return [values[item["name"]] for item in given]
        case "as_sym_int":
            return _size(given, values)
        case "as_sym_ints":
            return [_size(item, values) for item in given]
        case "as_scalar_type":
            return DTYPES[given]
    raise UsageError(f"the network uses an argument of the kind {kind!r}, which is not loaded from a file")


def _size(given: Mapping[str, Any], values: Values) -> Any:
    return values[given["as_name"]] if "as_name" in given else given["as_int"]


def _name(argument: Mapping[str, Any]) -> str:
    """Return the name of a tensor or of a size."""
    [(kind, given)] = argument.items()
    return str(given["as_name"] if kind == "as_sym_int" else given["name"])
