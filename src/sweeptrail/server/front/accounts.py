"""What the database knows of an account, and of what it asks for: one statement for each question."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy
from sqlalchemy import text

from sweeptrail.server.front.asgi import Refused

CONNECTIONS = 4
"""To the database, for these questions alone: they are answered while MLflow's own connections are all in use."""

REMEMBERED = 100_000
"""Of how many runs to remember who has made them, and where, which never changes: 30 MB."""

ACCOUNT = text("""
SELECT users.id, users.username, users.is_admin, users.password_hash,
       granted.resource_type, granted.resource_pattern, granted.permission
FROM users
LEFT JOIN user_role_assignments AS assigned ON assigned.user_id = users.id
LEFT JOIN roles ON roles.id = assigned.role_id AND roles.workspace = 'default'
LEFT JOIN role_permissions AS granted ON granted.role_id = roles.id
WHERE users.username = :name
""")

RUN = text("SELECT user_id, experiment_id FROM runs WHERE run_uuid = :id")

LOGGED_MODEL = text("""
SELECT runs.user_id, logged_models.experiment_id FROM logged_models
LEFT JOIN runs ON runs.run_uuid = logged_models.source_run_id WHERE logged_models.model_id = :id
""")

VERSION = text("SELECT run_id FROM model_versions WHERE name = :name AND version = :version")

LEVELS = ("DENY", "NO_PERMISSIONS", "READ", "USE", "EDIT", "MANAGE")
DEFAULT = "READ"
"""What an account may do where nothing is said of it, as in server/app/launch.py."""


@dataclass(frozen=True)
class Grant:
    """What an account may do with one thing, or, where it is called `*`, with all of the kind."""

    kind: str
    name: str
    level: str


@dataclass(frozen=True)
class Account:
    """Who asks."""

    id: int
    name: str
    is_admin: bool
    password_hash: str
    grants: tuple[Grant, ...]

    @property
    def mark(self) -> str:
        """What stands on a run that it has made: another account of the same name is another one."""
        return f"{self.name}#{self.id}"

    def level(self, kind: str, name: str) -> int:
        """Return what it may do with a thing, as MLflow reckons: a denial wins, then the highest."""
        found = [grant.level for grant in self.grants if grant.kind == kind and grant.name in ("*", name)]
        return 0 if "DENY" in found else max(map(LEVELS.index, found), default=LEVELS.index(DEFAULT))

    def own_level(self, kind: str, name: str) -> int:
        """Return what it was given for this very thing, which is MANAGE for what it has made."""
        found = [grant.level for grant in self.grants if grant.kind == kind and grant.name == name != "*"]
        return max(map(LEVELS.index, found), default=0)

    @property
    def is_simple(self) -> bool:
        """Whether nothing finer than an experiment or a registered model is denied to it."""
        return all(grant.kind in ("experiment", "registered_model") for grant in self.grants if grant.level == "DENY")


@dataclass(frozen=True)
class Made:
    """A run, or a logged model of one: who has made it, and in which experiment."""

    mark: str
    experiment: str


class Accounts:
    """Asks the database, in threads of its own."""

    def __init__(self, database_url: str) -> None:
        # Each question is one statement: no transaction, whose begin and end would be two more.
        self._engine = sqlalchemy.create_engine(
            database_url, isolation_level="AUTOCOMMIT", pool_size=CONNECTIONS, max_overflow=0, pool_pre_ping=False
        )
        self._threads = ThreadPoolExecutor(CONNECTIONS, "front")
        self._made: dict[str, Made] = {}

    async def find(self, name: str) -> Account | None:
        """Return an account by its name."""
        rows = await self._ask(ACCOUNT, {"name": name})
        if not rows:
            return None
        grants = tuple(Grant(*row[4:]) for row in rows if row[4])
        return Account(rows[0][0], rows[0][1], bool(rows[0][2]), rows[0][3], grants)

    async def run(self, run_id: str) -> Made | None:
        """Return who has made a run, None where there is none."""
        return await self._first_time(RUN, run_id)

    async def logged_model(self, model_id: str) -> Made | None:
        """Return who has made the run that a logged model is from, None where there is no such model."""
        return await self._first_time(LOGGED_MODEL, model_id)

    async def run_of_version(self, name: str, version: str) -> str:
        """Return the run that a version of a registered model is from, empty where there is none."""
        rows = await self._ask(VERSION, {"name": name, "version": int(version)}) if version.isdecimal() else []
        return str(rows[0][0] or "") if rows else ""

    async def _first_time(self, question: sqlalchemy.TextClause, key: str) -> Made | None:
        if key not in self._made and (rows := await self._ask(question, {"id": key})):
            if len(self._made) >= REMEMBERED:
                self._made.clear()
            self._made[key] = Made(rows[0][0] or "", str(rows[0][1]))
        return self._made.get(key)

    async def _ask(self, question: sqlalchemy.TextClause, values: Mapping[str, Any]) -> list[Any]:
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, partial(self._carry_out, question, values)
        )

    def _carry_out(self, question: sqlalchemy.TextClause, values: Mapping[str, Any]) -> list[Any]:
        try:
            try:
                return self._once(question, values)
            except sqlalchemy.exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return self._once(question, values)  # the database was started again: all old connections are gone
        except sqlalchemy.exc.SQLAlchemyError:
            raise Refused(503, "The database does not answer; try again in a moment.", retry_after="1") from None

    def _once(self, question: sqlalchemy.TextClause, values: Mapping[str, Any]) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(question, values).all())
