"""Composed mail: nothing but the meant headers and recipients, whatever a lead is called."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.clients import mail
from activities.clients.mail import Mailbox, RefusedMessage

DATE = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
ID = "<abc@flowtrack.example>"


def compose(**changes: object) -> mail.Composed:
    given: dict[str, object] = {
        "sender": Mailbox("sales@acme.example", "Acme Sales"),
        "to": ["lead@example.com"],
        "subject": "Hello",
        "text": "Hi",
        "message_id": ID,
        "date": DATE,
    }
    return mail.compose(**{**given, **changes})  # type: ignore[arg-type]


def parsed(composed: mail.Composed):
    return message_from_bytes(composed.message, policy=policy.default)


def name_of(composed: mail.Composed, header: str) -> str:
    """Read a name as RFC 2047 has it: no space between encoded words."""
    raw = str(message_from_bytes(composed.message)[header]).rpartition("<")[0].replace("\r\n", "").strip()
    decoded = str(make_header(decode_header(raw)))
    return re.sub(r"\\(.)", r"\1", decoded[1:-1]) if raw.startswith('"') else decoded


def test_a_message_holds_what_was_meant():
    composed = compose(
        to=[Mailbox("lead@example.com", "Léa Müller"), "b@example.com"],
        cc=["c@example.com"],
        bcc=["hidden@example.com", "b@example.com"],
        reply_to="reply@acme.example",
        subject="Grüße, 你好 🎉 and a rather long subject that has to be folded somewhere on its way",
        html="<p>Hi <b>Léa</b></p>",
        text=None,
        headers={"X-FlowTrack": "1", "Auto-Submitted": "auto-generated"},
        unsubscribe_url="https://flowtrack.example/u/abc",
    )
    message = parsed(composed)
    assert composed.recipients == ("lead@example.com", "b@example.com", "c@example.com", "hidden@example.com")
    assert composed.sender == "sales@acme.example"
    assert str(message["Subject"]).startswith("Grüße, 你好 🎉 and a rather")
    assert message["To"].addresses[0].display_name == "Léa Müller"
    assert "hidden" not in composed.message.decode()
    assert message["Message-ID"] == ID
    assert message["Date"].datetime == DATE
    assert message["List-Unsubscribe"] == "<https://flowtrack.example/u/abc>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message.get_body(("plain",)).get_content().strip() == "Hi Léa"
    assert "<b>Léa</b>" in message.get_body(("html",)).get_content()
    assert composed.message.isascii()
    assert max(map(len, composed.message.split(b"\r\n"))) <= 78
    assert b"\n" not in composed.message.replace(b"\r\n", b"")


def test_a_repeat_has_the_same_bytes():
    assert compose(html="<p>x</p>") == compose(html="<p>x</p>")


def test_a_message_id_follows_from_the_effects_key():
    first = mail.message_id("run", "node", 1, "send", domain="flowtrack.example")
    assert first == mail.message_id("run", "node", 1, "send", domain="flowtrack.example")
    assert first != mail.message_id("run", "node", 2, "send", domain="flowtrack.example")
    assert parsed(compose(message_id=first))["Message-ID"] == first


HOSTILE = [
    "x\r\nBcc: evil@example.com",
    "x\nBcc: evil@example.com",
    "x\rBcc: evil@example.com",
    "x\r\n\r\n<script>alert(1)</script>",
    "x\u2028Bcc: evil@example.com",
    "x\u2029Bcc: evil@example.com",
    "x\u0085Bcc: evil@example.com",
    "x\x00",
    "x\x0bBcc: evil@example.com",
    "x\x7f",
    "=?utf-8?q?a=0ABcc:_v@x?=",
    "=?utf-8?q?=0A?=",
    "a =?utf-8?b?CkJjYzogdkB4?= b",
    "x\ud800",
    "x" * 2001,
]
PLACES: dict[str, Callable[[str], dict[str, object]]] = {
    "subject": lambda value: {"subject": value},
    "sender name": lambda value: {"sender": Mailbox("a@acme.example", value)},
    "reply-to name": lambda value: {"reply_to": Mailbox("a@acme.example", value)},
    "to name": lambda value: {"to": [Mailbox("a@acme.example", value)]},
    "cc name": lambda value: {"cc": [Mailbox("a@acme.example", value)]},
    "sender": lambda value: {"sender": value},
    "reply-to": lambda value: {"reply_to": value},
    "to": lambda value: {"to": [value]},
    "bcc": lambda value: {"bcc": [value]},
    "to local part": lambda value: {"to": [f"{value}@example.com"]},
    "to domain": lambda value: {"to": [f"a@{value}"]},
    "header": lambda value: {"headers": {"X-A": value}},
    "header name": lambda value: {"headers": {f"X-{value}": "a"}},
    "message id": lambda value: {"message_id": f"<{value}@example.com>"},
    "unsubscribe": lambda value: {"unsubscribe_url": f"https://example.com/{value}"},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_is_refused_everywhere(place, value):
    with pytest.raises(RefusedMessage) as caught:
        compose(**PLACES[place](value))
    assert caught.value.code == "refused_message"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "a@",
        "@example.com",
        "a@example.com, b@example.com",
        "a@example.com>",
        "A <a@example.com>",
        '"a b"@example.com',
        "a@b@example.com",
        "a..b@example.com",
        "a@localhost",
        "a@[127.0.0.1]",
        "a@example.com\n",
        f"{'a' * 65}@example.com",
        "müller@example.com",
        "(comment)a@example.com",
        "a@exa mple.com",
        "a;b@example.com",
    ],
)
def test_an_address_is_judged_strictly(address):
    with pytest.raises(RefusedMessage):
        compose(to=[address])


def test_an_international_domain_travels_in_ascii():
    assert compose(to=["a@bücher.example"]).recipients == ("a@xn--bcher-kva.example",)


NAMES = [
    "Doe, John",
    'John "Jack" Doe',
    "Back\\slash",
    "a@b.example",
    "<script>alert(1)</script>",
    "evil@example.com>",
    "(comment)",
    "Müller, Jörg; GmbH",
    "{{ secrets.key }} ${7*7}",
    "名前" * 40,
    "word " * 60,
    "x" * 300,
    "a=b?c",
    "  two  spaces ",
    ":",
    ",",
    "👩‍👩‍👧‍👦",
]


@pytest.mark.parametrize("name", NAMES)
def test_an_unusual_name_stays_a_name(name):
    composed = compose(to=[Mailbox("lead@example.com", name)], subject=name or "x")
    message = parsed(composed)
    assert [address.addr_spec for address in message["To"].addresses] == ["lead@example.com"]
    assert name_of(composed, "To") == " ".join(name.split())
    assert message["Subject"] == " ".join(name.split())
    assert composed.recipients == ("lead@example.com",)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=120), st.text(max_size=120))
def test_any_text_is_either_refused_or_kept(subject, name):
    try:
        composed = compose(subject=subject, to=[Mailbox("lead@example.com", name)])
    except RefusedMessage:
        return
    message = parsed(composed)
    assert message.keys()[:3] == ["From", "To", "Subject"]
    assert "Bcc" not in message
    assert [address.addr_spec for address in message["To"].addresses] == ["lead@example.com"]


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=200))
def test_ordinary_text_is_never_refused(text):
    if "=?" not in text:
        compose(subject=text, sender=Mailbox("a@acme.example", text), headers={"X-A": text})


@pytest.mark.parametrize(
    "name",
    [
        *("Bcc", "bcc", "To", "From", "Subject", "Content-Type", "Resent-To", "Received", "Return-Path"),
        *("Sender", "DKIM-Signature", "MIME-Version", "Message-ID", "List-Unsubscribe"),
        *("X-A: b\r\nBcc", "X A", "", "X-ü"),
    ],
)
def test_other_headers_may_not_be_set(name):
    with pytest.raises(RefusedMessage):
        compose(headers={name: "a"})


def test_a_header_is_not_set_twice():
    with pytest.raises(RefusedMessage):
        compose(headers={"X-A": "1", "x-a": "2"})


@pytest.mark.parametrize("changes", [{"to": []}, {"to": [f"a{n}@example.com" for n in range(101)]}])
def test_a_message_has_recipients_but_not_a_crowd(changes):
    with pytest.raises(RefusedMessage):
        compose(**changes)


def test_a_message_may_go_to_hidden_recipients_alone():
    composed = compose(to=[], bcc=["d@example.com"])
    assert composed.recipients == ("d@example.com",)
    assert "To" not in parsed(composed)


def test_a_message_needs_a_body_and_a_zoned_date():
    with pytest.raises(RefusedMessage):
        compose(text=None, html=None)
    with pytest.raises(RefusedMessage):
        compose(date=DATE.replace(tzinfo=None))
    with pytest.raises(RefusedMessage):
        compose(text="\ud800")
    with pytest.raises(RefusedMessage):
        compose(html="x" * 300_000)


def test_the_body_is_only_a_body():
    text = "x\r\n.\r\nBcc: evil@example.com\r\n\x00\r\n--=_\r\n" + "y" * 2000
    message = parsed(compose(text=text, html=None))
    assert "Bcc" not in message
    assert message.get_content() == text.replace("\x00", "") + "\r\n"


@pytest.mark.parametrize(
    "url", ["http:/x", "javascript:alert(1)", "https://x/>,<mailto:a@b", "//x", "https://x y", ""]
)
def test_an_unsubscribe_address_is_an_url(url):
    with pytest.raises(RefusedMessage):
        compose(unsubscribe_url=url)


def test_a_long_unsubscribe_address_stays_whole():
    url = f"https://flowtrack.example/u/{'a' * 500}"
    assert parsed(compose(unsubscribe_url=url))["List-Unsubscribe"] == f"<{url}>"
