"""Who may speak with the page, and what every answer carries. Pure ASGI: no route can forget it.

The page is for one person at this machine, but any page in their browser can send requests here, under any name that
leads to 127.0.0.1 (DNS rebinding). So: the Host is ours, or nothing is said; without the session's cookie nothing is
shown; only a POST changes anything, from a page of ours (Origin, Sec-Fetch-Site), with the session's form token.

The link's token is exchanged for the cookie at once, and the browser sent on to an address without it.
"""

import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs, parse_qsl

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-src 'self'; frame-ancestors 'none'"
)
"""Of our own pages. An answer that needs another one (a letter in its frame) brings it along."""
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    # Not no-referrer: a form would be posted with the Origin null then (Fetch §3.2), as from anywhere.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "x-frame-options": "SAMEORIGIN",
}
STATIC: Final = "/static/"
"""What stands there is no secret: also who has no session sees a page that looks like one."""
_LARGEST_FORM: Final = 64 * 1024


def _secret() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Session:
    """The secrets of one `dispatcher review`: the link's token, the cookie, and what every form carries.

    `once` is the token of a link that works once: others on this machine may read what a browser is started with.
    """

    port: int
    token: str = field(default_factory=_secret, repr=False)
    once: str = field(default_factory=_secret, repr=False)
    cookie: str = field(default_factory=_secret, repr=False)

    @property
    def cookie_name(self) -> str:
        """With the port: cookies do not tell the ports of a host apart, and there may be two pages."""
        return f"dispatcher-{self.port}"

    @property
    def form(self) -> str:
        """The token of forms, made of the cookie."""
        return hmac.new(self.cookie.encode(), b"form", sha256).hexdigest()

    @property
    def hosts(self) -> frozenset[str]:
        """What a browser may call us."""
        return frozenset({f"127.0.0.1:{self.port}", f"localhost:{self.port}"})

    @property
    def link(self) -> str:
        """Where the page is, for the person who started it."""
        return self._link(self.token)

    @property
    def link_for_once(self) -> str:
        """The same, for their browser."""
        return self._link(self.once)

    def _link(self, token: str) -> str:
        return f"http://127.0.0.1:{self.port}/?token={token}"


class Guard:
    """Lets through to `app` what comes from a page of ours; `stranger` answers those without a session."""

    def __init__(self, app: ASGIApp, session: Session, stranger: ASGIApp) -> None:
        self._app = app
        self._session = session
        self._once = session.once
        self._stranger = stranger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        headers = _headers(scope)
        if refused := self._refusal(scope, headers) or self._exchange(scope):
            await refused(scope, receive, send)
        elif not self._known(headers) and not (scope["path"].startswith(STATIC) and scope["method"] != "POST"):
            await self._stranger(scope, receive, send)
        elif scope["method"] == "POST":
            await self._posted(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Mapping[str, list[str]]) -> Response | None:
        host = headers.get("host", [])
        if len(host) != 1 or host[0] not in self._session.hosts:
            return PlainTextResponse("This is not a site. Open the link that dispatcher review printed.", 421)
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("GET, HEAD and POST alone.", 405, {"allow": "GET, HEAD, POST"})
        if scope["method"] != "POST":
            return None
        ours = headers.get("origin") == [f"http://{host[0]}"]
        if not ours or headers.get("sec-fetch-site", ["same-origin"]) != ["same-origin"]:
            return PlainTextResponse("This did not come from a page of dispatcher review. Nothing was changed.", 403)
        return None

    def _exchange(self, scope: Scope) -> Response | None:
        """The link's token, exchanged for the cookie."""
        if scope["path"] != "/" or scope["method"] != "GET":
            return None
        given = [value for name, value in parse_qsl(scope["query_string"].decode("latin-1")) if name == "token"]
        if len(given) != 1 or not self._opens(given[0]):
            return None
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._session.cookie_name, self._session.cookie, httponly=True, samesite="strict", path="/")
        return answer

    def _opens(self, token: str) -> bool:
        if self._once and _same(token, self._once):
            self._once = ""
            return True
        return _same(token, self._session.token)

    def _known(self, headers: Mapping[str, list[str]]) -> bool:
        for header in headers.get("cookie", []):
            try:
                found = SimpleCookie(header).get(self._session.cookie_name)
            except CookieError:
                continue
            if found is not None and _same(found.value, self._session.cookie):
                return True
        return False

    async def _posted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A form goes on, read, as `request.state.form`, if it carries the session's token."""
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            if len(body) > _LARGEST_FORM:
                await PlainTextResponse("The form is too large.", 413)(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        form = {name: values[0] for name, values in parse_qs(body.decode("latin-1"), keep_blank_values=True).items()}
        if not _same(form.pop("token", ""), self._session.form):
            await PlainTextResponse("The form is of another session. Load its page anew.", 403)(scope, receive, send)
            return
        scope.setdefault("state", {})["form"] = form
        await self._app(scope, _Again(body, receive), send)


class _Again:
    """A request's body that was read already."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _same(given: str, secret: str) -> bool:
    """Whether they are, in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode(), secret.encode())


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            there: Iterable[tuple[bytes, bytes]] = list(message.get("headers", ()))
            names = {name.lower() for name, _ in there}
            more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in names]
            message = {**message, "headers": [*there, *more]}
        await send(message)

    return sending
