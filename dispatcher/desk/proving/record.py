"""What the ledger recorded, held against the hash chain; and the approvals' signatures."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from dispatcher.core import dossier as form
from dispatcher.core.approval import Approval, PlanName, PublicKey
from dispatcher.core.chain import KINDS, Link, Name, verify
from dispatcher.core.dossier import Recorded
from dispatcher.core.errors import SignatureError
from dispatcher.desk.proving.held import NOT_LISTED, Held, Tampered
from dispatcher.ledgers.rows import DAMAGED
from dispatcher.signing import verify as verify_signature


class Record:
    """The rows of a dossier's record. They stand in the order of the chain, so one look at each is enough."""

    def __init__(self, held: Held, head: str) -> None:
        self._held = held
        self._head = head  # must be met on the way, if it is not ''
        self._rows = {kind: held.lines(form.record_file(kind)) for kind in KINDS}
        self._ahead: dict[str, Recorded | None] = {}
        self._last_attempt = 0
        self._campaigns = set[int]()  # the number of this one, as its plans have it
        self._elsewhere = dict[int, Name]()  # those of rows that are not here

    def check(self) -> None:
        """All of it. Raises Tampered."""
        self._chain()
        self._approvals()

    def _chain(self) -> None:
        said = self._held.facts["chain"]
        elsewhere = said["rows_of_other_campaigns"]
        found = verify(bytes.fromhex(said["start"]), self._links(), self._look, partial=bool(elsewhere))
        if fault := found.fault:
            file = form.record_file(fault.row.kind) if fault.row and fault.what != "broken" else form.LINKS
            raise Tampered(file, fault.why, row=str(fault.row or ""), key=self._whose(fault.row))
        for kind in KINDS:
            if row := self._next(kind):
                what = "it was inserted: the chain does not name it there"
                raise Tampered(form.record_file(kind), what, row=f"{kind} {row.id}")
        if (found.links, found.head.hex(), found.elsewhere) != (said["length"], said["head"], elsewhere):
            raise Tampered(form.LINKS, "the chain is cut off: the manifest says that it goes on")
        for number in self._campaigns & self._elsewhere.keys():
            name = self._elsewhere[number]
            what = f"{name} was removed: by the chain it is of this campaign"
            raise Tampered(form.record_file(name.kind), what, row=str(name))
        if self._head:
            raise Tampered(form.LINKS, f"the hash that you kept is not in the chain: {self._head}")

    def _look(self, _link: Link, names: Sequence[Name]) -> list[bytes | None]:
        """The digest of each of these rows, if it is the next one of its kind here; else it is another campaign's."""
        found: list[bytes | None] = []
        for name in names:
            row = self._next(name.kind)
            if row is None or row.id != name.id:
                self._elsewhere.setdefault(name.campaign, name)
                found.append(None)
                continue
            del self._ahead[name.kind]
            try:
                self._keep(row)
            except DAMAGED:
                raise Tampered(form.record_file(name.kind), "it is not as it was written", row=str(name)) from None
            if name.kind == "plan":
                self._campaigns.add(name.campaign)
            found.append(row.digest)
        return found

    def _next(self, kind: str) -> Recorded | None:
        if kind not in self._ahead:
            self._ahead[kind] = self._parsed(kind)
        return self._ahead[kind]

    def _parsed(self, kind: str) -> Recorded | None:
        for place, line in self._rows[kind]:
            try:
                return Recorded.parse(kind, line)
            except ValueError as error:
                raise Tampered(form.record_file(kind), str(error), row=place) from None
        return None

    def _links(self) -> Iterator[Link]:
        self._held.observe("links", 0, self._held.facts["chain"]["length"])
        for place, line in self._held.lines(form.LINKS):
            try:
                link = form.link_of(line)
            except ValueError as error:
                raise Tampered(form.LINKS, str(error), row=place) from None
            yield link
            self._head = "" if link.link.hex() == self._head else self._head
            self._held.observe("links", link.number, self._held.facts["chain"]["length"])

    def _whose(self, row: Name | None) -> str:
        """The key of the recipient that an attempt is about, if the table says so."""
        if row is None or row.kind != "attempt":
            return ""
        try:
            attempts = (json.loads(line) for _, line in self._held.lines(form.record_file("attempt")))
            letter = next((a["public"]["letter"] for a in attempts if a["id"] == row.id), None)
            rows = (
                json.loads(line.rstrip(b",\n"))
                for _, line in self._held.lines(form.JSON)
                if line.startswith(form.ROW_BEGINS)
            )
            return next((str(r["key"]) for r in rows if r["letter"] == letter), "")
        except (*DAMAGED, Tampered):
            return ""

    def _keep(self, row: Recorded) -> None:
        """What is asked for later."""
        if self._held.facts["redacted"] and row.below is not None:
            raise Tampered(form.record_file(row.kind), "it shows what is to be hidden", row=f"{row.kind} {row.id}")
        above = row.above
        self._held.purged |= row.kind == "purge"
        if row.kind == "attempt":
            self._last_attempt = max(self._last_attempt, row.id)
            self._held.scratch.keep("attempt", above["letter"], row.line(), id_=row.id)
        elif row.kind == "override":
            self._held.scratch.keep("override", row.id, b"")
        elif row.kind == "session":
            self._held.scratch.keep("session", row.id, row.line())
        elif row.kind == "event" and above["letter"]:
            self._event(row)
        elif row.kind == "plan":
            self._held.plans[above["revision"]] = {**above, **(row.below or {}), "hidden": row.below is None}
            self._held.attempts_before[above["revision"]] = self._last_attempt
            self._plan(row)
        elif row.kind == "approval":
            self._held.scratch.keep("approval", 0, row.line(), id_=row.id)

    def _event(self, row: Recorded) -> None:
        letter, kind, subject = row.above["letter"], row.above["kind"], (row.below or {}).get("subject")
        said = json.dumps([row.id, kind, subject, self._last_attempt])
        self._held.scratch.keep("event", letter, said.encode(), id_=row.id)
        if kind in ("printed", "reprinted", "posted"):
            self._held.scratch.keep("on paper", letter, row.above["at"].encode(), id_=row.id)

    def _plan(self, row: Recorded) -> None:
        if row.below is None or self._held.facts["redacted"]:
            return
        for name, column in zip(form.plan_files(row.above["revision"]), ("frozen", "dictionary"), strict=True):
            if name not in self._held.files:
                raise Tampered(name, NOT_LISTED)
            if self._held.files[name].digest != row.below[column]:
                raise Tampered(name, "it is not what was sealed: the chain has another digest of it")

    def _approvals(self) -> None:
        for line in self._held.scratch.kept("approval", 0):
            row = Recorded.parse("approval", line)
            if row.below is None or not row.below["signature"]:
                continue
            above = row.above
            plan = PlanName(above["campaign"], above["revision"], above["digest"])
            try:
                at = datetime.fromisoformat(above["at"])
                approval = Approval(plan, row.below["name"], at, row.below["key"], row.below["signature"])
                verify_signature(approval.text(), approval.signature, PublicKey.parse(approval.key))
            except (SignatureError, ValueError, TypeError):
                what = f"the signature of {row.below['name']} is not good"
                raise Tampered(form.record_file("approval"), what, row=f"approval {row.id}") from None
