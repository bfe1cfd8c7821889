"""What cannot be done inside of a run says so, at once and in one line."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import NOT_IMPLEMENTED

Class = TypeVar("Class", bound=type)


def refuse(call: str) -> NoReturn:
    """Raise the MlflowException that names what cannot be done."""
    raise MlflowException(
        f"{call}: not possible inside a run of a sweep, which only writes its journal and asks no server; "
        f"ask the server itself, by a client of its own: MlflowClient('http://HOST:5000')",
        error_code=NOT_IMPLEMENTED,
    )


def refusing_the_rest(*bases: type, but: tuple[str, ...] = ()) -> Callable[[Class], Class]:
    """Give a class a method that refuses for each public one of `bases` that it does not define itself.

    MLflow's abstract store enforces nothing: a method that is left out would do nothing, silently.
    """

    def complete(cls: Class) -> Class:
        for name in {name for base in bases for name in dir(base) if not name.startswith("_")}:
            is_method = any(callable(getattr(base, name, None)) for base in bases)
            if is_method and name not in vars(cls) and name not in but:
                setattr(cls, name, _refusal(name))
        return cls

    return complete


def _refusal(name: str) -> Callable[..., NoReturn]:
    def method(self: Any, *_: Any, **__: Any) -> NoReturn:
        refuse(name)

    method.__name__ = name
    return method
