"""Questions to an identity provider, over HTTPS; in clear only to this very machine. No redirect is followed.

An answer is a JSON object. Raises SignInEnded for a refusal that stands until a person does something, with the
provider's own code in `Refusal` beneath it; ProviderUnavailable for what may pass. Neither holds a secret, though the
provider may have sent one back.
"""

import asyncio
import ipaddress
import json
import socket
import ssl
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

from dispatcher.accounts.grant import Client
from dispatcher.accounts.keychain import PLACE
from dispatcher.core.errors import Problem, ProviderUnavailable, SecretError

if TYPE_CHECKING:
    import httpx

SECONDS: Final = 30.0
_LARGEST: Final = 256 * 1024
_PIECE: Final = 16 * 1024
_PLAIN: Final = {"Accept-Encoding": "identity"}
_PASSING: Final = frozenset(("temporarily_unavailable", "server_error"))
_LONGEST: Final = 300


class Refusal(Exception):
    """The provider's refusal: its code (RFC 6749 §5.2, RFC 8628 §3.5), and its words."""

    def __init__(self, code: str, words: str) -> None:
        self.code = code
        self.words = words
        super().__init__(words)


def require_extra() -> None:
    """Raise SecretError with the command that installs what is missing."""
    try:
        import authlib  # noqa: F401, PLC0415 (an extra, and slow to load)
        import httpx  # noqa: F401, PLC0415
    except ImportError:
        todo = "install it: pip install 'dispatcher[oauth]'"
        raise SecretError(Problem("signing in by OAuth is an extra that is not installed", PLACE, todo)) from None


def require_secure(url: str) -> str:
    """The URL, which is https, or http on this machine. Raises SecretError."""
    parts = urlsplit(url)
    if (
        parts.username is None
        and parts.hostname
        and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url)))
    ):
        return url
    todo = "give the address that your provider publishes, such as https://login.example.org"
    raise SecretError(Problem(f"{url} is not https", PLACE, todo))


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def fetch(url: str) -> Mapping[str, Any]:
    """The JSON object at a URL."""
    return await _asked("GET", url, {}, {}, ())


async def post(url: str, form: Mapping[str, str], client: Client) -> Mapping[str, Any]:
    """The answer to a form. Raises Refusal for an error that the provider names, unless it is one that may pass."""
    require_extra()
    from authlib.oauth2.auth import ClientAuth  # noqa: PLC0415 (an extra, and slow to load)

    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    body = urlencode(form)
    shown = (client.id, client.secret)
    if client.method == "client_secret_basic":  # RFC 6749 §2.3.1; the library leaves this to us
        shown = (quote_plus(client.id), quote_plus(client.secret))
    auth = ClientAuth(*shown, client.method)
    _, headers, body = auth.prepare("POST", url, headers, body)
    hidden = (
        client.secret,
        *(form[name] for name in ("refresh_token", "code", "device_code", "token") if name in form),
    )
    return await _asked("POST", url, headers, body, [secret for secret in hidden if secret])


async def _asked(
    method: str, url: str, headers: Mapping[str, str], body: Any, hidden: Collection[str]
) -> Mapping[str, Any]:
    require_extra()
    import httpx  # noqa: PLC0415 (an extra, and slow to load)

    require_secure(url)
    host = urlsplit(url).hostname
    near = is_loopback(url)
    try:
        context = await asyncio.to_thread(ssl.create_default_context)
        async with (
            asyncio.timeout(SECONDS),
            httpx.AsyncClient(verify=context, timeout=SECONDS, trust_env=not near) as http,
            http.stream(method, url, headers={**headers, **_PLAIN}, content=body or None) as response,
        ):
            octets = await _limited(response)
            status = response.status_code
    except (httpx.HTTPError, OSError) as error:  # a time-out is an OSError, too
        raise ProviderUnavailable(f"{host} cannot be asked for a token: {_why(error)}") from None
    return _read(status, octets, f"{host}", hidden)


def _why(error: BaseException) -> str:
    """What went wrong, for people: the first cause of it, which the libraries bury deep."""
    root = error
    while inner := root.exceptions[0] if isinstance(root, BaseExceptionGroup) else root.__cause__ or root.__context__:
        root = inner
    match root:
        case ConnectionRefusedError():
            return "the connection was refused"
        case socket.gaierror():
            return f"its name could not be looked up: {root.strerror}"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "no answer in time"
    return str(root) or type(root).__name__


async def _limited(response: "httpx.Response") -> bytes:
    """What came, as it came: packed octets could be a thousand times as many. Of more than enough, the beginning."""
    octets = b""
    async for piece in response.aiter_raw(_PIECE):
        octets += piece
        if len(octets) > _LARGEST:
            break
    return octets


def _read(status: int, octets: bytes, host: str, hidden: Collection[str]) -> Mapping[str, Any]:
    try:
        data = json.loads(octets or b"{}")
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict) and status == 200 and "error" not in data:
        return data
    code = data.get("error") if isinstance(data, dict) else None
    if status >= 500 or status in (408, 429) or not isinstance(code, str) or code in _PASSING:
        raise ProviderUnavailable(
            f"{host} gives no token now: HTTP {status}" + (f", {_clean(code, hidden)}" if isinstance(code, str) else "")
        )
    said = data.get("error_description") if isinstance(data, dict) else None
    words = code + (f": {said}" if isinstance(said, str) and said else "")
    raise Refusal(code, _clean(words, hidden))


def _clean(text: str, hidden: Collection[str]) -> str:
    """A provider's words in one line, without what it was told."""
    for secret in hidden:
        text = text.replace(secret, "[hidden]")
    line = text.splitlines()[0].split(" Trace ID:")[0] if text else ""  # Microsoft's, for its own people
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
