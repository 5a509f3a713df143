"""Composing a message whose bytes hold exactly the headers and recipients that were meant.

Header lines are written here and not by `email`: its folding of encoded words once let a subject
become a Bcc line. What has been written is then read back by `email`, as a second opinion.
"""

import hashlib
import re
import unicodedata
from base64 import b64encode
from binascii import b2a_qp
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.headerregistry import AddressHeader
from email.parser import BytesHeaderParser
from email.utils import format_datetime
from functools import lru_cache
from typing import Any

from email_validator import EmailNotValidError, validate_email

from activities.clients import markup
from activities.clients.addresses import OutwardError

LINE_END = re.compile(r"\r\n|\r|\n")
MAX_RECIPIENTS = 100
MAX_VALUE = 2000
# Mail programs cut far earlier, and cleaning more would hold up everything else in the process.
MAX_BODY = 262_144
LINE = 76
MESSAGE_ID = re.compile(r"<[A-Za-z0-9._+-]{1,200}@[A-Za-z0-9.-]{1,200}>")
HEADER_URL = re.compile(r"[\x21-\x7e]{1,900}")
# Controls other than tab and line ends, which no mail server need take in a body.
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
PLAIN = re.compile(r"[\x20-\x7e]*")
ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
# Further headers a caller may add; everything else has its own argument or is nobody's to set.
EXTRA = re.compile(
    r"X-[A-Za-z0-9-]{1,60}|Auto-Submitted|Precedence|Feedback-ID|In-Reply-To|References|List-ID|Importance",
    re.IGNORECASE,
)


class RefusedMessage(OutwardError):
    """This message cannot be sent as it is."""

    code = "refused_message"


@dataclass(frozen=True)
class Mailbox:
    """An e-mail address, with or without a name."""

    email: str
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A message in its final bytes, and its envelope."""

    message: bytes
    sender: str
    recipients: tuple[str, ...]


def message_id(*key: object, domain: str) -> str:
    """Derive a Message-ID from an effect's key, so that a repeat carries the same one."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).hexdigest()
    return f"<{digest[:40]}@{domain}>"


def valid_address(address: str) -> str:
    """Check an e-mail address strictly and return its ASCII form."""
    try:
        # test_environment admits .test, which no resolver knows, and changes nothing else.
        valid = validate_email(
            address, check_deliverability=False, strict=True, allow_smtputf8=False, test_environment=True
        )
    except EmailNotValidError as error:
        raise RefusedMessage(f"not an e-mail address: {error}") from error
    if valid.ascii_email is None:
        raise RefusedMessage("not an e-mail address that every server takes")
    return valid.ascii_email


def compose(
    *,
    sender: Mailbox | str,
    to: Sequence[Mailbox | str],
    cc: Sequence[Mailbox | str] = (),
    bcc: Sequence[Mailbox | str] = (),
    reply_to: Mailbox | str | None = None,
    subject: str,
    html: str | None = None,
    text: str | None = None,
    message_id: str,
    date: datetime,
    headers: Mapping[str, str] | None = None,
    unsubscribe_url: str | None = None,
) -> Composed:
    """Compose a message, or raise RefusedMessage."""
    boxes = {
        "From": [_mailbox(sender)],
        "To": [_mailbox(each) for each in to],
        "Cc": [_mailbox(each) for each in cc],
        "Reply-To": [_mailbox(reply_to)] if reply_to else [],
    }
    hidden = [_mailbox(each).email for each in bcc]
    visible = [box.email for name in ("To", "Cc") for box in boxes[name]]
    recipients = tuple(dict.fromkeys([*visible, *hidden]))
    if not recipients or len(recipients) > MAX_RECIPIENTS:
        raise RefusedMessage(f"a message has 1 to {MAX_RECIPIENTS} recipients")
    values = {"Subject": _checked("Subject", subject), **_own(message_id, date, unsubscribe_url)}
    for name, value in (headers or {}).items():
        if not EXTRA.fullmatch(name) or name.lower() in map(str.lower, values):
            raise RefusedMessage(f"this header may not be set: {name!r}")
        values[name] = _checked(name, value)
    message = _head(boxes, values) + _body(html, text, seed=message_id)
    _verify(message, boxes, values)
    return Composed(message=message, sender=boxes["From"][0].email, recipients=recipients)


def _mailbox(given: Mailbox | str) -> Mailbox:
    box = Mailbox(given) if isinstance(given, str) else given
    # One spelling of a space, as parsers join them anyway.
    name = " ".join(_checked("name", box.name).split(" ")).strip()
    return Mailbox(valid_address(_checked("address", box.email)), name)


def _checked(name: str, value: str) -> str:
    """Refuse what could end a header line or be read as an encoded word."""
    # Cc control, Zl and Zp line separators, Cs lone surrogates.
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs") for character in value):
        raise RefusedMessage(f"control characters are not allowed: {name}")
    if "=?" in value:
        raise RefusedMessage(f"encoded words are not allowed: {name}")
    if len(value) > MAX_VALUE:
        raise RefusedMessage(f"too long: {name}")
    return re.sub(" +", " ", value).strip()


def _own(message_id: str, date: datetime, unsubscribe_url: str | None) -> dict[str, str]:
    if not MESSAGE_ID.fullmatch(message_id):
        raise RefusedMessage("not a Message-ID")
    if date.tzinfo is None:
        raise RefusedMessage("a date without time zone")
    own = {"Message-ID": message_id, "Date": format_datetime(date)}
    if unsubscribe_url is not None:
        if not markup.WEB.fullmatch(unsubscribe_url) or not re.fullmatch(
            r"[\x21-\x7e]{1,900}", unsubscribe_url
        ):
            raise RefusedMessage("not an URL to unsubscribe at")
        own["List-Unsubscribe"] = f"<{unsubscribe_url}>"
        own["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return own


def _head(boxes: Mapping[str, Sequence[Mailbox]], values: Mapping[str, str]) -> bytes:
    addressed = {name: _commas(map(_written, mailboxes)) for name, mailboxes in boxes.items() if mailboxes}
    lines = [_folded(f"{name}:", words) for name, words in addressed.items()]
    lines += [_folded(f"{name}:", _words(value)) for name, value in values.items()]
    return "".join([*lines, "MIME-Version: 1.0\r\n"]).encode("ascii")


def _written(box: Mailbox) -> list[str]:
    if not box.name:
        return [box.email]
    if ATOMS.fullmatch(box.name) and len(box.name) < LINE:
        return [*box.name.split(" "), f"<{box.email}>"]
    if PLAIN.fullmatch(box.name) and len(box.name) < LINE:
        quoted = box.name.replace("\\", "\\\\").replace('"', '\\"')
        return [f'"{quoted}"', f"<{box.email}>"]
    return [*_encoded(box.name), f"<{box.email}>"]


def _commas(boxes: Iterable[list[str]]) -> list[str]:
    words: list[str] = []
    for box in boxes:
        if words:
            words[-1] += ","
        words += box
    return words


def _words(value: str) -> list[str]:
    words = value.split(" ")
    # A word that no line can hold is cut by encoding it; ids and addresses in <> stay whole.
    if PLAIN.fullmatch(value) and all(len(word) < LINE or word.startswith("<") for word in words):
        return words
    return _encoded(value)


def _encoded(value: str) -> list[str]:
    """Write text as encoded words (RFC 2047), never cutting a character in two."""
    chunks, chunk = [], b""
    for character in value:
        octets = character.encode()
        if len(chunk) + len(octets) > 39:
            chunks.append(chunk)
            chunk = b""
        chunk += octets
    return [f"=?utf-8?b?{b64encode(part).decode('ascii')}?=" for part in (*chunks, chunk)]


def _folded(name: str, words: Sequence[str]) -> str:
    lines, line = [], name
    for word in words:
        if len(line) + 1 + len(word) > LINE and line != name:  # the first word stands beside the name
            lines.append(line)
            line = ""
        line = f"{line} {word}"
    return "\r\n".join([*lines, line]) + "\r\n"


def _body(html: str | None, text: str | None, *, seed: str) -> bytes:
    if html is None and text is None:
        raise RefusedMessage("a message needs a body")
    if len(html or "") + len(text or "") > MAX_BODY:
        raise RefusedMessage(f"a body has at most {MAX_BODY} characters")
    if html is None:
        return _part("plain", text or "")
    cleaned = markup.clean(html)
    parts = [_part("plain", markup.text(cleaned) if text is None else text), _part("html", cleaned)]
    # Fixed by key and content: a repeat has the same bytes, and no content can hold its own boundary.
    boundary = f"=_{hashlib.sha256(seed.encode() + b''.join(parts)).hexdigest()[:32]}".encode("ascii")
    head = b'Content-Type: multipart/alternative;\r\n boundary="%s"\r\n\r\n' % boundary
    return head + b"".join(b"--%s\r\n%s" % (boundary, part) for part in parts) + b"--%s--\r\n" % boundary


def _part(subtype: str, content: str) -> bytes:
    lines = LINE_END.sub("\r\n", CONTROLS.sub("", content)).removesuffix("\r\n") + "\r\n"
    try:
        encoded = b2a_qp(lines.encode(), istext=True)
    except UnicodeError as error:
        raise RefusedMessage("the body holds broken characters") from error
    head = f'Content-Type: text/{subtype}; charset="utf-8"\r\n'.encode("ascii")
    return head + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded


def _verify(message: bytes, boxes: Mapping[str, Sequence[Mailbox]], values: Mapping[str, str]) -> None:
    """Read the bytes back: they must hold exactly what was meant."""
    names = [name for name, mailboxes in boxes.items() if mailboxes] + [*values, "MIME-Version"]
    try:
        raw = BytesHeaderParser(policy=policy.compat32).parsebytes(message).raw_items()
        own = [(name, line) for name, line in raw if not name.lower().startswith("content-")]
        parsed = {name: _header(name, line) for name, line in own}
        same = [name for name, _ in own] == names
        same = same and all(str(parsed[name]) == value for name, value in values.items())
        same = same and all(_read(parsed[name]) == _meant(boxes[name]) for name in names if name in boxes)
    except Exception as error:  # what `email` raises on hostile input is not listed anywhere
        raise RefusedMessage("the message does not read as it was meant") from error
    if not same:
        raise RefusedMessage("the message does not read as it was meant")


@lru_cache(maxsize=64)
def _header(name: str, line: str) -> Any:
    """Read a header by the strict parser, which is slow; the sender and most others are in every mail."""
    return policy.default.header_fetch_parse(name, line)


def _read(header: AddressHeader) -> list[Mailbox]:
    return _meant([Mailbox(address.addr_spec, address.display_name) for address in header.addresses])


def _meant(boxes: Iterable[Mailbox]) -> list[Mailbox]:
    # Python 3.11 reads a space between two encoded words of a name, where there is none.
    return [Mailbox(box.email, box.name.replace(" ", "")) for box in boxes]
