"""What checkdmarc (extra `doctor`) makes of a domain's records: a second opinion, for whoever asks for it.

It asks the resolver that we ask, and nobody else: its looks at MX hosts, name servers and DNSSEC go to others, those
at policies and logos over the web, so none of these is used. It works in a thread, and is given up after a while.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from dispatcher.core.dns import host_and_port
from dispatcher.core.errors import Problem, UsageError
from dispatcher.core.opinion import Opinion

WHO: Final = "checkdmarc"
SECONDS: Final = 30.0
"""For all of its questions."""
EACH: Final = 6.0
TRY: Final = 2.0


def require_doctor() -> None:
    """Raise UsageError if it is not installed."""
    try:
        import checkdmarc  # noqa: F401, PLC0415 (slow to load, and an extra)
    except ImportError:
        todo = "install it: pip install 'dispatcher[doctor]'; or leave --doctor out"
        raise UsageError(Problem("a second opinion is checkdmarc's, which is not installed", todo=todo)) from None


async def opinions(
    domain: str, path_domain: str, address: str = "", *, seconds: float = SECONDS, each: float = EACH
) -> list[Opinion]:
    """On the SPF record of the return path's domain, and on DMARC, TLS-RPT and MTA-STS of the From address's domain.

    `address` is the resolver's, or '' for the system's. Never raises for what it finds.
    """
    return await asyncio.to_thread(lambda: list(_asked(domain, path_domain, address, seconds, each)))


def _asked(domain: str, path_domain: str, address: str, seconds: float, each: float) -> Iterator[Opinion]:
    from checkdmarc.dmarc import check_dmarc  # noqa: PLC0415
    from checkdmarc.mta_sts import parse_mta_sts_record, query_mta_sts_record  # noqa: PLC0415
    from checkdmarc.smtp_tls_reporting import check_smtp_tls_reporting  # noqa: PLC0415
    from checkdmarc.spf import check_spf  # noqa: PLC0415
    from checkdmarc.utils import DNS_CACHE  # noqa: PLC0415

    DNS_CACHE.clear()  # it does not remember whom it asked
    logging.getLogger("checkdmarc").setLevel(logging.CRITICAL)  # what it has to say, it returns

    def sts(name: str, **how: Any) -> Mapping[str, Any]:
        found = query_mta_sts_record(name, **how)
        return {"valid": True, "warnings": [*found["warnings"], *parse_mta_sts_record(found["record"])["warnings"]]}

    checks: tuple[tuple[str, str, Callable[..., Mapping[str, Any]]], ...] = (
        ("SPF", path_domain, check_spf),
        ("DMARC", domain, check_dmarc),
        ("TLS-RPT", domain, check_smtp_tls_reporting),
        ("MTA-STS", domain, sts),
    )
    try:
        resolver = _resolver(address, seconds, each)
    except Exception as error:  # noqa: BLE001 (whatever it is, nobody can be asked)
        yield from (Opinion(subject, unknown=f"{error}") for subject, *_ in checks)
        return
    for subject, name, check in checks:
        resolver.failed = ""
        yield _one(subject, partial(check, name, resolver=resolver, timeout=each, retries=0), resolver)


def _one(subject: str, check: Callable[[], Mapping[str, Any]], resolver: Any) -> Opinion:
    try:
        found = check()
    except Exception as error:  # noqa: BLE001 (records are others' texts, and it raises many things)
        found = {"valid": False, "error": str(error) or type(error).__name__}
    if resolver.failed:
        return Opinion(subject, unknown=resolver.failed)
    remarks = tuple(" ".join(str(remark).split()) for remark in found.get("warnings", ()))
    return Opinion(subject, "" if found["valid"] else " ".join(str(found.get("error", "invalid")).split()), remarks)


def _resolver(address: str, seconds: float, each: float) -> Any:
    """One that remembers that it got no answer, and has so many seconds for all questions together."""
    from dns.resolver import LifetimeTimeout, NoNameservers, Resolver  # noqa: PLC0415

    class Hurried(Resolver):
        failed = ""
        until = time.monotonic() + seconds

        def resolve(self, *words: Any, **how: Any) -> Any:
            left = self.until - time.monotonic()  # with none left it gives up at once
            try:
                return super().resolve(*words, **{**how, "lifetime": min(each, left), "search": False})
            except (LifetimeTimeout, NoNameservers, OSError) as error:
                self.failed = f"no answer about {words[0]}: {type(error).__name__}"
                raise

    resolver = Hurried(configure=not address)
    if address:
        host, resolver.port = host_and_port(address)
        resolver.nameservers = [host]
    resolver.timeout, resolver.lifetime = min(TRY, each), each
    return resolver
