"""An identity provider on the loopback interface: an authorisation server by the letter of its RFCs, and with moods.

    with Provider() as provider:
        ... sign in at provider.issuer, with provider.client ...
    provider.tokens       the access tokens that are good now; also a file, for a relay that asks
    provider.asked        what was asked for, by the name of the grant

It checks what is told: PKCE (RFC 7636), redirects to loopback alone (RFC 8252), single use of codes, device codes
(RFC 8628), the client's secret by post or Basic. A refresh token is used once: a second use ends the whole sign-in, as
RFC 9700 §4.14.2 wants it. `moods` are answers that come first.
"""

import base64
import hashlib
import json
import re
import secrets
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from tests import canary

CLIENT = "dispatcher-at-kms"
SCOPE = "https://mail.example.org/send"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass
class Provider:
    """See the module. `rotates`: each refresh gives a new refresh token; `secret`: the client is confidential."""

    secret: str = ""
    method: str = "client_secret_post"
    expires_in: Any = 3600
    rotates: bool = True
    consent: str = "yes"  # no | unticked | forged
    offline: bool = True
    interval: Any = 0
    patience: int = 900  # seconds that a code lives
    moods: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    file: Path | None = None
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._codes: dict[str, dict[str, str]] = {}
        self._devices: dict[str, str] = {}
        self._refresh = ""
        self._count = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                if parts.path == "/.well-known/oauth-authorization-server":
                    self._answer(200, provider.metadata)
                elif parts.path == "/authorize":
                    self.send_response(302)
                    self.send_header("Location", provider.authorize(query))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self._answer(404, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = {name: values[0] for name, values in parse_qs(body, strict_parsing=True).items()}
                with provider._lock:
                    self._answer(*provider.answer(self.path, form, self.headers.get("Authorization", "")))

            def _answer(self, status: int, data: Any) -> None:
                octets = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(octets)))
                if 300 <= status < 400:  # whoever follows gets what was asked for, and has told a secret to anybody
                    self.send_header("Location", f"{provider.issuer}/token")
                self.end_headers()
                self.wfile.write(octets)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self.issuer = f"{'https' if self.tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def metadata(self) -> dict[str, Any]:
        """RFC 8414."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "device_authorization_endpoint": f"{self.issuer}/device",
            "revocation_endpoint": f"{self.issuer}/revoke",
            "token_endpoint_auth_methods_supported": [self.method],
        }

    def revoke(self) -> None:
        """As somebody does who changes their password."""
        with self._lock:
            self._refresh = ""
            self.expire()

    def expire(self) -> None:
        """All access tokens end, whatever was said of their life."""
        with self._lock:
            self.tokens.clear()
            self._write()

    @property
    def refresh_token(self) -> str:
        """The one that is good."""
        return self._refresh

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser is sent, once the person has decided."""
        redirect = query["redirect_uri"]
        assert re.fullmatch(r"http://(127\.0\.0\.1|localhost):\d+", redirect), redirect
        assert (query["client_id"], query["response_type"], query["scope"]) == (CLIENT, "code", SCOPE)
        assert query["code_challenge_method"] == "S256"
        assert len(query["state"]) > 30
        assert query["login_hint"] == canary.USER
        answer = {"state": query["state"]}
        if self.consent == "no":
            answer |= {"error": "access_denied", "error_description": "The person said no"}
        else:
            code = f"code-{secrets.token_urlsafe(16)}"
            self._codes[code] = {"redirect_uri": redirect, "challenge": query["code_challenge"]}
            answer["code"] = code
        if self.consent == "forged":
            answer["state"] = "somebody-else's"
        return f"{redirect}?{urlencode(answer)}"

    def answer(self, path: str, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        """To one form."""
        if path == "/device":
            assert form == {"scope": SCOPE, "client_id": CLIENT}
            device = f"device-{secrets.token_urlsafe(16)}"
            self._devices[device] = "WDJB-MJHT"
            return 200, {
                "device_code": device, "user_code": "WDJB-MJHT", "verification_uri": f"{self.issuer}/device",
                "expires_in": self.patience, **({} if self.interval is None else {"interval": self.interval}),
            }  # fmt: skip
        self.asked.append(form.get("grant_type", path))
        if not self._knows(form, authorization):
            return 401, {"error": "invalid_client", "error_description": "no such application, or another secret"}
        if path == "/revoke":
            assert form["token"] == self._refresh
            self.revoke()
            return 200, b""
        return self.moods.pop(0) if self.moods else self._granted(form)

    def _granted(self, form: dict[str, str]) -> tuple[int, Any]:
        match form["grant_type"]:
            case "authorization_code":
                return self._by_code(form)
            case "refresh_token":
                return self._by_refresh(form)
            case "client_credentials":
                return 200, self._given(None)
        assert form["grant_type"] == DEVICE
        if self._devices.pop(form["device_code"], None) is None:
            return 400, {"error": "invalid_grant"}
        return 200, self._given(self._new_refresh())

    def _knows(self, form: dict[str, str], authorization: str) -> bool:
        if not self.secret:
            return form.get("client_id") == CLIENT and "client_secret" not in form
        if self.method == "client_secret_post":
            return (form.get("client_id"), form.get("client_secret")) == (CLIENT, self.secret)
        name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return (unquote_plus(name), unquote_plus(secret)) == (CLIENT, self.secret)

    def _by_code(self, form: dict[str, str]) -> tuple[int, Any]:
        known = self._codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if known != {"redirect_uri": form["redirect_uri"], "challenge": challenge}:
            return 400, {"error": "invalid_grant", "error_description": "no such code, redirect or verifier"}
        return 200, self._given(self._new_refresh())

    def _by_refresh(self, form: dict[str, str]) -> tuple[int, Any]:
        if form["refresh_token"] != self._refresh:
            self.revoke()
            told = f"Token {form['refresh_token']} has been expired or revoked.\nTrace ID: 1"
            return 400, {"error": "invalid_grant", "error_description": told}
        return 200, self._given(self._new_refresh() if self.rotates else None)

    def _new_refresh(self) -> str | None:
        self._refresh = f"{canary.REFRESH}.{secrets.token_hex(4)}"
        return self._refresh if self.offline else None

    def _given(self, refresh: str | None) -> dict[str, Any]:
        self._count += 1
        token = f"{canary.ACCESS}.{self._count}"
        self.tokens.append(token)
        self._write()
        given = {
            "access_token": token, "token_type": "Bearer", "expires_in": self.expires_in,
            "scope": "openid" if self.consent == "unticked" else f"openid {SCOPE}", "refresh_token": refresh,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}

    def _write(self) -> None:
        if self.file:
            self.file.write_text("".join(f"{token}\n" for token in self.tokens), encoding="utf-8")
