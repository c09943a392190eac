"""Whether the links of letters can be reached, if somebody asks: each once, a few at a time, nothing of it is read.

Only what a server says for sure counts against a link (404, 410, a bad certificate, a name that does not exist): many
refuse whoever is no browser, and that says nothing of what a reader will see.
"""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

SECONDS: Final = 10.0
AT_ONCE: Final = 10
GONE: Final = frozenset({404, 410})
_GREETING: Final = {"User-Agent": "Mozilla/5.0 (compatible; dispatcher)"}


def reached(targets: Iterable[str], *, seconds: float = SECONDS) -> Mapping[str, str]:
    """Each http(s) link with what is wrong with it: '' if nothing, or words; "unknown: …" if nobody can tell."""
    links = sorted({link for link in targets if link.lower().startswith(("http://", "https://"))})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(links, pool.map(lambda link: _reached(link, seconds), links), strict=True))


def _reached(link: str, seconds: float) -> str:
    for method in ("HEAD", "GET"):  # some know only the second
        try:
            request = urllib.request.Request(link, method=method, headers=_GREETING)  # noqa: S310 (http or https)
            with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310
                return ""
        except urllib.error.HTTPError as error:
            if method == "GET":
                return (
                    f"the server says {error.code}" if error.code in GONE else f"unknown: the server says {error.code}"
                )
        except urllib.error.URLError as error:
            return _trouble(error.reason)
        except (OSError, ValueError) as error:
            return _trouble(error)
    return ""


def _trouble(reason: object) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {reason.verify_message}"
    return f"unknown: {reason}"
