"""Who may do what: an account writes in what it has made, and reads the rest."""

import re
from urllib.parse import unquote

from sweeptrail.server.front.accounts import LEVELS, Account, Accounts, Made
from sweeptrail.server.front.asgi import Refused
from sweeptrail.server.front.asking import Asked
from sweeptrail.server.front.routes import Right, Route

READ, EDIT, MANAGE = (LEVELS.index(name) for name in ("READ", "EDIT", "MANAGE"))

KINDS = ("experiment", "registered_model")
"""What may be granted here."""

FILE = re.compile(r"(?P<experiment>\d+)/(?:(?P<run>[0-9a-f]{32})|models/(?P<model>m-[0-9a-f]{32}))/artifacts(?:/.*)?")
"""Where the files of a run and of a logged model are, from the root of the artifacts."""

NOT_OWN = (
    "{} was made by somebody else: on this server an account writes in what it has made itself. Its administrator "
    "can change that: sweeptrail server set-permission, or server start --shared-write."
)


class Rights:
    """Decides about requests."""

    def __init__(self, accounts: Accounts, *, shared_write: bool) -> None:
        """With `shared_write` everybody who may write at all writes in everything."""
        self._accounts, self._shared_write = accounts, shared_write

    async def check(self, route: Route, parts: dict[str, str], asked: Asked, account: Account) -> bool:
        """Raise Refused if an account may not do what it asks for; return whether MLflow need not look again.

        Where a request makes something, who has made it is put in.
        """
        if route.heavy:
            asked.limit_question() if route.path == "/graphql" else asked.limit_search()
        match route.right:
            case Right.READ_FILES | Right.OWN_FILES:
                await self._check_files(route.right, parts.get("path") or asked.text("path"), account)
                return True
            case Right.READ_RUN:
                made = await self._accounts.run(asked.text("run_id", "run_uuid"))
                return made is not None and account.is_simple and account.level("experiment", made.experiment) >= READ
            case Right.NEW_RUN:
                experiment = asked.text("experiment_id")
                asked.put("user_id", account.mark)
                self._expect(account, account.level("experiment", experiment) >= EDIT, "Permission denied")
                return account.is_simple
            case Right.OWN_RUN:
                return await self._check_run(asked, account)
            case Right.ADMIN | Right.OWN_PASSWORD:
                self._check_administration(route, asked, account)
            case _:
                await self._check_other(route.right, parts, asked, account)
        return False

    def _check_administration(self, route: Route, asked: Asked, account: Account) -> None:
        is_own = route.right is Right.OWN_PASSWORD and asked.text("username") == account.name
        self._expect(account, is_own, "Permission denied")
        if route.path.endswith("/grant") and asked.text("resource_type") not in KINDS:
            raise Refused(400, f"resource_type: expected one of {', '.join(KINDS)}.")

    async def _check_other(self, right: Right, parts: dict[str, str], asked: Asked, account: Account) -> None:
        match right:
            case Right.NEW_EXPERIMENT:
                self._expect(account, account.level("experiment", "*") >= EDIT, "Permission denied")
                if asked.text("artifact_location", default=""):
                    raise Refused(403, "This server keeps all artifacts in one place; leave artifact_location out.")
            case Right.NEW_MODEL:
                self._expect(account, account.level("experiment", "*") >= EDIT, "Permission denied")
                _model(asked, "name")
            case Right.NEW_VERSION:
                _model(asked, "name")
            case Right.NEW_LOGGED_MODEL | Right.OWN_LOGGED_MODEL:
                await self._check_logged_model(right, parts, asked, account)
            case Right.OWN_EXPERIMENT:
                experiment = asked.text("experiment_id")
                self._expect(
                    account, self._looks_after(account, KINDS[0], experiment), NOT_OWN.format("This experiment")
                )
            case Right.OWN_MODEL | Right.OWN_VERSION:
                await self._check_model(right, asked, account)

    async def _check_logged_model(self, right: Right, parts: dict[str, str], asked: Asked, account: Account) -> None:
        if right is Right.OWN_LOGGED_MODEL:
            if asked.text("model_id", default=parts["id"]) != parts["id"]:  # by which MLflow finalizes
                raise Refused(400, "This request names two logged models.")
            self._check_made(await self._accounts.logged_model(parts["id"]), account, "This model")
            return
        level = account.level("experiment", asked.text("experiment_id"))
        self._expect(account, level >= EDIT, "Permission denied")
        if run := asked.text("source_run_id", default=""):
            self._check_made(await self._accounts.run(run), account, "This run")

    async def _check_model(self, right: Right, asked: Asked, account: Account) -> None:
        name = _model(asked, "name")
        if "new_name" in asked.values or "newName" in asked.values:
            _model(asked, "new_name")
        may = self._looks_after(account, KINDS[1], name)
        if right is Right.OWN_VERSION and not may:
            run = await self._accounts.run_of_version(name, asked.text("version"))
            made = await self._accounts.run(run) if run else None
            may = made is not None and self._may_write(account, made)
        self._expect(account, may, NOT_OWN.format("This model"))

    async def _check_run(self, asked: Asked, account: Account) -> bool:
        made = await self._accounts.run(asked.text("run_id", "run_uuid"))
        if made is None:
            return False  # MLflow says that there is none
        self._check_made(made, account, "This run")
        if asked.models("models") and not asked.models("metrics"):
            return False  # that a run has used a model, anybody's, or made one: MLflow looks at these
        for model in asked.models("metrics"):
            self._check_made(await self._accounts.logged_model(model), account, "This model")
        return account.is_simple

    async def _check_files(self, right: Right, path: str, account: Account) -> None:
        found = FILE.fullmatch(path.strip("/"))
        if not found or ".." in unquote(unquote(unquote(path))).replace("\\", "/").split("/"):
            raise Refused(404, "There are no artifacts of this name.")
        run, model = found["run"], found["model"]
        made = await (self._accounts.run(run) if run else self._accounts.logged_model(model))
        if made is None or made.experiment != found["experiment"]:
            raise Refused(404, "There are no artifacts of this name.")
        if right is Right.OWN_FILES:
            self._check_made(made, account, "This run")
        may_read = account.is_simple and account.level("experiment", made.experiment) >= READ
        self._expect(account, may_read, "Permission denied")

    def _check_made(self, made: Made | None, account: Account, what: str) -> None:
        if made is None or account.level("experiment", made.experiment) < EDIT:
            self._expect(account, False, "Permission denied")
        else:
            self._expect(account, self._may_write(account, made), NOT_OWN.format(what))

    def _may_write(self, account: Account, made: Made) -> bool:
        level = account.level("experiment", made.experiment)
        return level >= EDIT and (
            made.mark == account.mark or self._looks_after(account, "experiment", made.experiment)
        )

    def _looks_after(self, account: Account, kind: str, name: str) -> bool:
        """Tell whether an account was given this very thing, which who has made it is, or everything."""
        level, own = account.level(kind, name), account.own_level(kind, name)
        if kind == KINDS[1]:  # MLflow calls some of them prompts
            own = max(own, account.own_level("prompt", name))
        return level >= MANAGE or (level >= EDIT and (self._shared_write or own >= EDIT))

    def _expect(self, account: Account, may: bool, refusal: str) -> None:
        if not may and not account.is_admin:
            raise Refused(403, refusal)


def _model(asked: Asked, name: str) -> str:
    """Return the name of a registered model. Raises Refused for the one that stands for all of them in a grant."""
    if (found := asked.text(name)).strip() == "*":
        raise Refused(400, "A registered model cannot be called *.")
    return found
