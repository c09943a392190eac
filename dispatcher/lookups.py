"""Look-ups in the DNS: answers the questions of inquiries (`core.dns`), many at a time, each once.

What a name server does not say is unknown, with the reason: a time-out, SERVFAIL, a refusal, an answer that cannot be
read. Nothing is guessed from it, and nothing is raised. A resolver that has not answered once after a few questions is
not asked again, so that nobody waits for each of a hundred names.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dispatcher.core.dns import Answer, Inquiry, Question, T, host_and_port

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

SECONDS: Final = 6.0
"""For one question, with all repetitions."""
TRY: Final = 2.0
AT_ONCE: Final = 20
_PATIENCE: Final = 3
"""Questions without an answer until a resolver that never answered is given up."""
_LONGEST: Final = 4096
"""Characters of a record that anybody could want."""


class Lookups:
    """Asks one resolver: the system's, or the one at `address` ("192.0.2.53", "[2001:db8::53]:5353")."""

    def __init__(self, address: str = "", *, seconds: float = SECONDS, each: float = TRY) -> None:
        self._address = address
        self._seconds = seconds
        self._try = each
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._known: dict[Question, asyncio.Future[Answer]] = {}
        self._resolver: Resolver | None = None
        self._broken = ""
        self._silent = 0
        self._answered = False

    async def settle(self, inquiry: Inquiry[T]) -> T:
        """Answer an inquiry's questions until it returns."""
        try:
            question = next(inquiry)
            while True:
                question = inquiry.send(await self.answer(question))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def answer(self, question: Question) -> Answer:
        """The answer to one question, looked up once."""
        if question not in self._known:
            self._known[question] = asyncio.ensure_future(self._looked_up(question))
        return await self._known[question]

    async def _looked_up(self, question: Question) -> Answer:
        async with self._gate:
            if self._broken or (self._silent >= _PATIENCE and not self._answered):
                return Answer(unknown=self._broken or "the resolver does not answer")
            return await self._ask(question)

    async def _ask(self, question: Question) -> Answer:
        import dns.exception  # noqa: PLC0415 (slow to load, and most commands need none)

        try:
            if self._resolver is None:
                self._resolver = self._made()
            found = await self._resolver.resolve(question.name, question.kind, search=False)
        except (dns.exception.DNSException, OSError, ValueError) as error:
            return self._without(error)
        self._answered = True
        return Answer(tuple(_text(question, record) for record in found))

    def _without(self, error: Exception) -> Answer:
        """What it means that no records came."""
        import dns.resolver as said  # noqa: PLC0415

        self._answered |= isinstance(error, said.NXDOMAIN | said.NoAnswer | said.NoNameservers)
        self._silent += isinstance(error, said.LifetimeTimeout)
        if isinstance(error, said.NXDOMAIN):
            return Answer(exists=False)
        if isinstance(error, said.NoAnswer) and not _refers(error):
            return Answer()
        why = f"cannot be asked: {error or type(error).__name__}"
        if isinstance(error, said.LifetimeTimeout):
            why = f"no answer within {self._seconds:g} s"
        elif isinstance(error, said.NoAnswer):
            why = "the name server sends on to others that should know"
        elif isinstance(error, said.NoNameservers):
            why = _refusal(error)
        elif isinstance(error, said.NoResolverConfiguration):
            why = self._broken = "this system names no resolver"
        return Answer(unknown=why)

    def _made(self) -> "Resolver":
        from dns.asyncresolver import Resolver  # noqa: PLC0415

        resolver = Resolver(configure=not self._address)
        if self._address:
            host, port = host_and_port(self._address)
            resolver.nameservers = [host]
            resolver.port = port
        resolver.timeout = self._try
        resolver.lifetime = self._seconds
        resolver.retry_servfail = False
        return resolver


def _refers(error: Any) -> bool:
    """Whether an answer without records is a referral, and so says nothing of them (RFC 2308 §2.2)."""
    import dns.flags  # noqa: PLC0415
    from dns.rdatatype import NS  # noqa: PLC0415

    response = error.kwargs["response"]
    return not response.flags & dns.flags.AA and any(each.rdtype == NS for each in response.authority)


def _refusal(error: Any) -> str:
    """What the last name server did, in a word: SERVFAIL, REFUSED."""
    errors: Sequence[Any] = error.kwargs.get("errors", ())
    said = str(errors[-1][3]) if errors else "no server"
    return f"the name server's answer is no answer: {said}"


def _text(question: Question, record: Any) -> str:
    if question.kind == "TXT":
        return b"".join(record.strings).decode("utf-8", "backslashreplace")[:_LONGEST]
    if question.kind == "MX":
        host = record.exchange.to_text(omit_final_dot=True).lower()
        return f"{record.preference} {host}"
    if question.kind == "PTR":
        return str(record.target.to_text(omit_final_dot=True).lower())
    return str(record.address)
