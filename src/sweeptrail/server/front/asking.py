"""What a request asks for: its parameters, read once and handed on as they were read."""

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sweeptrail.server.front import limits
from sweeptrail.server.front.asgi import Refused

AND = re.compile(r"\band\b", re.IGNORECASE)
RESULTS = re.compile(r"max_?results\W{1,9}(\d+)", re.IGNORECASE)
MOST_ORDERS = 10
"""Columns that a search is ordered by, each of which is a join as well."""


class Asked:
    """The parameters of a request, from its body or from its address."""

    def __init__(self, values: dict[str, Any], *, in_address: bool) -> None:
        self.values = values
        self.in_address = in_address
        self.is_changed = False

    @classmethod
    def from_address(cls, query: bytes) -> "Asked":
        """Read what stands behind the question mark; what stands there twice is a list."""
        values: dict[str, Any] = {}
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=1000)
        except ValueError:
            raise Refused(400, "The address of this request is not understood.") from None
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        return cls(values, in_address=True)

    @classmethod
    def from_body(cls, body: bytes) -> "Asked":
        """Read a JSON object. Raises Refused for anything else."""
        if body.count(b"{") + body.count(b"[") > limits.PIECES:
            raise Refused(413, f"This request has more than {limits.PIECES} objects and lists.")
        if b"\\u0000" in body:
            raise Refused(400, "Expected text without the character NUL, which no database takes.")
        try:
            values = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise Refused(400, "Expected a JSON object.")
        return cls(values, in_address=False)

    def encoded(self) -> bytes:
        """Return them as they are handed on: MLflow cannot understand them in another way than we have."""
        if self.in_address:
            return urlencode(self.values, doseq=True).encode()
        return json.dumps(self.values).encode()

    def text(self, name: str, *others: str, default: str | None = None) -> str:
        """Return a parameter, however it is spelled. Raises Refused for none, several, or one that is no text."""
        given = [value for key in _spellings(name, *others) for value in self._all(key)]
        if not given and default is not None:
            return default
        if len(set(map(str, given))) != 1 or not isinstance(given[0], str):
            raise Refused(400, f"Expected one value for the parameter '{name}', a text; got {len(given)}.")
        return given[0]

    def put(self, name: str, value: Any) -> None:
        """Set a parameter, instead of all its spellings."""
        for key in _spellings(name):
            self.values.pop(key, None)
        self.values[name] = value
        self.is_changed = True

    def models(self, *lists: str) -> set[str]:
        """Return the logged models that these lists, or the request itself, name."""
        items = [self.values, *(item for name in lists for item in _as_list(self.values.get(name)))]
        given = {item.get(key) for item in items if isinstance(item, dict) for key in _spellings("model_id")}
        return {str(model) for model in given - {None, ""}}

    def limit_search(self) -> None:
        """Have a search return no more than a page. Raises Refused for one that would keep the database busy."""
        orders = _as_list(self.values.get("order_by", self.values.get("orderBy", [])))
        if len(orders) > MOST_ORDERS:
            raise Refused(400, f"This search is ordered by more than {MOST_ORDERS} columns.")
        self._refuse_terms(str(self.values.get("filter", "")))
        for key in _spellings("max_results"):
            for value in self._all(key):
                if str(value).isdecimal() and int(value) > limits.PAGE:
                    self.put("max_results", [str(limits.PAGE)] if self.in_address else limits.PAGE)

    def limit_question(self) -> None:
        """Raise Refused for a question in GraphQL that would keep MLflow busy."""
        query = self.values.get("query")
        if not isinstance(query, str) or len(query) > limits.QUERY:
            raise Refused(400, f"Expected a query of at most {limits.QUERY} characters.")
        whole = json.dumps(self.values)
        self._refuse_terms(whole)
        if any(len(number) > 5 or int(number) > limits.PAGE for number in RESULTS.findall(whole)):
            raise Refused(400, f"This query asks for more than {limits.PAGE} results.")

    def _refuse_terms(self, text: str) -> None:
        if len(AND.findall(text)) >= limits.TERMS:
            raise Refused(400, f"This filter has more than {limits.TERMS} comparisons.")

    def _all(self, key: str) -> list[Any]:
        if key not in self.values:
            return []
        return list(self.values[key]) if self.in_address else [self.values[key]]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _spellings(*names: str) -> list[str]:
    """Return how a field of a message may be spelled in JSON."""
    return list(dict.fromkeys(form for name in names for form in (name, _camel(name))))


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)
