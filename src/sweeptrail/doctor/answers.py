"""What an answer of a server means that nobody expected, and what to do about it."""

import socket
import ssl
from typing import TYPE_CHECKING

from sweeptrail.doctor import access
from sweeptrail.tracking.uri import without_credentials

if TYPE_CHECKING:
    from requests import Response


def no_answer(error: BaseException) -> tuple[str, str]:
    """Return why there is no answer, and what to do about it."""
    from requests.exceptions import ConnectTimeout, InvalidURL, ProxyError, RequestException

    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    root = str(causes[-1]).partition("\n")[0][:200]
    log = "look into the server's log (sweeptrail server logs)"
    mistrusted = "set MLFLOW_TRACKING_SERVER_CERT_PATH to the file with the server's certificate"
    if "mismatch" in root:
        mistrusted = "write the name that the certificate is for"
    elif "expired" in root or "not yet valid" in root:
        mistrusted = "ask the administrator for a new certificate, unless this machine's clock is wrong"
    kinds: list[tuple[type[BaseException], str, str]] = [
        # What it says itself may quote a piece of a password.
        (InvalidURL, "this is no address", "write http://HOST:5000, and a / in a password as %2F"),
        (ProxyError, f"the proxy does not pass it on ({root})", "correct HTTPS_PROXY, or name the server in NO_PROXY"),
        (socket.gaierror, f"name lookup: {root}", "correct the name in the tracking URI, or see to the network"),
        (ssl.SSLCertVerificationError, f"TLS: {root}", mistrusted),
        (ssl.SSLError, f"TLS: {root}", "write http:// if the server has no TLS"),
        (ConnectionRefusedError, "connection refused", "start it (sweeptrail server start), or correct the port"),
        (
            ConnectTimeout,
            f"timeout: no connection in {access.PATIENCE:.0f} s",
            "correct the address, or see to the firewall",
        ),
        (TimeoutError, f"timeout: no answer in {access.PATIENCE:.0f} s", log),
    ]
    for kind, found, todo in kinds:
        if any(isinstance(cause, kind) for cause in causes):
            return found, todo
    if isinstance(error, RequestException):
        return f"connection lost: {root}", f"write https:// if the server has TLS, or {log}"
    return root, "correct MLFLOW_TRACKING_SERVER_CERT_PATH or MLFLOW_TRACKING_CLIENT_CERT_PATH"


def status(reply: "Response") -> str:
    """Return an HTTP status with the reason that came with it."""
    # A page of HTML says nothing in one line.
    text = "" if "<" in reply.text else reply.text.strip()[:100]
    return f"HTTP {reply.status_code} {reply.reason}{text and f': {text}'}"


def advice(reply: "Response") -> str:
    """Return what to do about an HTTP status that nobody expected."""
    if location := reply.headers.get("Location"):
        return f"write the address that it points to: {without_credentials(location).removesuffix('/version')}"
    if reply.status_code == 403 and "Host" in reply.text:
        return "ask the administrator to start the server with this name among its --allowed-hosts"
    if reply.status_code < 500:
        return "correct the address: MLflow answers otherwise"
    return "ask the administrator to look into the logs of the server (sweeptrail server logs) and of what is before it"
