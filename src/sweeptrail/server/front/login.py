"""Who asks: passwords are checked in a thread, one at a time, and whoever guesses has to wait."""

import asyncio
import base64
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from werkzeug.security import check_password_hash, generate_password_hash

from sweeptrail.server.front.accounts import Account, Accounts
from sweeptrail.server.front.asgi import Refused
from sweeptrail.server.front.limits import Slots

AT_ONCE = 1
"""How many passwords are checked at a time; each takes a core for a tenth of a second."""

WAITING = 128
"""How many may wait for that, a quarter of them from one address."""

PER_ADDRESS = 4
"""How many of them may come from one address."""

GUESSES, RECOVERY = 10, 6.0
"""How many wrong passwords an address, or a name, may have, and after how many seconds it may have one more."""

REMEMBERED = 10_000
"""How many addresses and names, and how many passwords that were right."""

LOGIN = {"www_authenticate": 'Basic realm="mlflow"'}
UNKNOWN = "You are not authenticated: send the name and the password of an account, as HTTP's Basic authentication."


class Guesses:
    """How many wrong passwords there were lately, of each address or name."""

    def __init__(self) -> None:
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def left(self, who: str) -> float:
        """Return how many more there may be."""
        spent, since = self._spent.get(who, (0.0, 0.0))
        return GUESSES - max(0.0, spent - (time.monotonic() - since) / RECOVERY)

    def spend(self, who: str) -> bool:
        """Note a wrong one; tell whether it was the last, for now."""
        left = self.left(who)
        self._spent[who] = (GUESSES - left + 1, time.monotonic())
        self._spent.move_to_end(who)
        if len(self._spent) > REMEMBERED:
            self._spent.popitem(last=False)
        return 1 <= left < 2


class Login:
    """Tells who asks. A password that was right is remembered for as long as the database has the same hash."""

    def __init__(self, accounts: Accounts, note: Callable[..., None]) -> None:
        """`note` is told, as a line of the audit log, what was refused."""
        self._accounts, self._note = accounts, note
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, str] = OrderedDict()
        self._guesses = Guesses()
        self._threads = ThreadPoolExecutor(AT_ONCE, "password")
        self._dummy = generate_password_hash(secrets.token_urlsafe(24))
        self._all = Slots(WAITING, 0, "Too many logins at once; try again in a moment.")
        self._addresses = Slots(PER_ADDRESS, WAITING // 4, "Too many logins at once; try again in a moment.")
        self._checks: dict[bytes, asyncio.Future[bool]] = {}

    async def account(self, authorization: bytes, address: str) -> Account:
        """Return who asks. Raises Refused: 401 for a wrong login, 429 for one too many, 503 for too many at once."""
        name, password = _credentials(authorization)
        key = hmac.digest(self._key, f"{name}\0{password}".encode(), "sha256")
        if key in self._right:
            account = await self._accounts.find(name)
            if account and hmac.compare_digest(self._right[key], account.password_hash):
                self._right.move_to_end(key)
                return account
            self._right.pop(key, None)
        return await self._in_turn(name, password, key, address)

    async def _in_turn(self, name: str, password: str, key: bytes, address: str) -> Account:
        self._refuse_guesses(name, address)
        async with self._all.of(""), self._addresses.of(address):
            self._refuse_guesses(name, address)  # the others of this address may have spent them meanwhile
            account = await self._accounts.find(name)
            is_right = await self._is_right(password, account.password_hash if account else self._dummy, key)
        if account and is_right:
            self._right[key] = account.password_hash
            if len(self._right) > REMEMBERED:
                self._right.popitem(last=False)
            return account
        self._spend(name, address)
        raise Refused(401, UNKNOWN, **LOGIN)

    def _refuse_guesses(self, name: str, address: str) -> None:
        if min(self._guesses.left(f"address {address}"), self._guesses.left(f"name {name}")) < 1:
            raise Refused(429, "Too many wrong passwords; try again later.", retry_after=f"{RECOVERY:.0f}")

    async def _is_right(self, password: str, hashed: str, key: bytes) -> bool:
        """Check a password, once for all who have sent the same at the same time."""
        what = key + hashed.encode()
        check = self._checks.get(what)
        if check is None:
            loop = asyncio.get_running_loop()
            check = loop.run_in_executor(self._threads, check_password_hash, hashed, password)
            self._checks[what] = check
            check.add_done_callback(lambda _: self._checks.pop(what, None))
        return bool(await asyncio.shield(check))

    def _spend(self, name: str, address: str) -> None:
        self._note(address, name, "wrong password")
        for who in (f"address {address}", f"name {name}"):
            if self._guesses.spend(who):
                self._note(address, name, f"too many wrong passwords: the {who.partition(' ')[0]} has to wait")


def _credentials(authorization: bytes) -> tuple[str, str]:
    scheme, _, encoded = authorization.decode("latin-1").partition(" ")
    if scheme.lower() != "basic" or len(encoded) > 2000:
        raise Refused(401, UNKNOWN, **LOGIN)
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        raise Refused(401, UNKNOWN, **LOGIN) from None
    if not (name and colon) or len(name) > 255 or not name.isprintable():
        raise Refused(401, UNKNOWN, **LOGIN)
    return name, password
