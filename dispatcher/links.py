"""Whether the links of letters can be reached, if somebody asks: each once, a few at a time, nothing of it is read.

Only what a server says for sure counts against a link (404, 410, a bad certificate): many refuse whoever is no
browser, and that says nothing of what a reader will see.
"""

import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

SECONDS: Final = 10.0
"""Until something comes; for all of one link three times as long, for it may be asked twice, and lead elsewhere."""
AT_ONCE: Final = 10
GONE: Final = frozenset({404, 410})
_GREETING: Final = {"User-Agent": "Mozilla/5.0 (compatible; dispatcher)"}


def reached(targets: Iterable[str], *, seconds: float = SECONDS) -> Mapping[str, str]:
    """Each http(s) link with what is wrong with it: '' if nothing, or words; "unknown: …" if nobody can tell."""
    links = sorted({link for link in targets if link.lower().startswith(("http://", "https://"))})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(links, pool.map(lambda link: _in_time(link, seconds), links), strict=True))


def _in_time(link: str, seconds: float) -> str:
    """In a thread of its own, which nobody waits for if a server feeds it an octet now and then, for ever."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(_reached(link, seconds)), daemon=True)
    thread.start()
    thread.join(3 * seconds)
    return found[0] if found else f"unknown: no answer within {3 * seconds:g} s"


def _reached(link: str, seconds: float) -> str:
    for method in ("HEAD", "GET"):  # some know only the second
        try:
            request = urllib.request.Request(_asked(link), method=method, headers=_GREETING)  # noqa: S310 (http(s))
            with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310
                return ""
        except urllib.error.HTTPError as error:
            if method == "GET":
                return (
                    f"the server says {error.code}" if error.code in GONE else f"unknown: the server says {error.code}"
                )
        except urllib.error.URLError as error:
            return _trouble(error.reason)
        except HTTPException:
            return "unknown: the server's answer cannot be read"
        except (OSError, ValueError) as error:
            return _trouble(error)
    return ""


def _asked(link: str) -> str:
    """The link as a browser asks for it: what stands in it beyond ASCII becomes %XX. Raises ValueError."""
    parts = urlsplit(link)
    parts.port  # noqa: B018 (raises for one that is no number)
    path, query = quote(parts.path, safe=_LEFT), quote(parts.query, safe=_LEFT)
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


_LEFT: Final = "%/:?@!$&'()*+,;=~[]"


def _trouble(reason: object) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {reason.verify_message}"
    return f"unknown: {reason}"
