"""The mail catcher, over real SMTP and real HTTP."""

import asyncio
import json
import smtplib
from email.message import EmailMessage

import httpx
import pytest

from local.mail import Catcher

pytestmark = pytest.mark.anyio


def letter(**headers: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "FlowTrack <hello@example.com>"
    message["To"] = "Ada <ada@example.com>"
    message["Subject"] = "Grüße, Ada"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content("Plain — text\n")
    message.add_alternative("<p>Rich <b>text</b></p>", subtype="html")
    return message


async def send(catcher: Catcher, message: EmailMessage, *, to: list[str] | None = None) -> None:
    def conversation() -> None:
        with smtplib.SMTP("127.0.0.1", catcher.smtp_port, timeout=10) as smtp:
            smtp.send_message(message, to_addrs=to)

    await asyncio.to_thread(conversation)


async def get(catcher: Catcher, path: str, *, accept: str = "*/*") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(catcher.url + path, headers={"Accept": accept})


async def test_a_mail_sent_is_listed_as_json(smtp_catcher):
    await send(smtp_catcher, letter(Message_ID="<1@example.com>"))
    [message] = (await get(smtp_catcher, "/messages")).json()
    assert message["from"] == "hello@example.com"
    assert message["to"] == ["ada@example.com"]
    assert message["subject"] == "Grüße, Ada"
    assert message["text"] == "Plain — text\n"
    assert message["html"] == "<p>Rich <b>text</b></p>\n"
    assert message["headers"]["Message-ID"] == "<1@example.com>"
    assert message["received_at"].endswith("+00:00")


async def test_the_envelope_shows_who_got_a_blind_copy(smtp_catcher):
    await send(smtp_catcher, letter(), to=["ada@example.com", "secret@example.com"])
    [message] = smtp_catcher.messages()
    assert message.to == ["ada@example.com", "secret@example.com"]


async def test_mails_are_listed_in_the_order_they_came(smtp_catcher):
    for number in range(5):
        message = letter()
        message.replace_header("Subject", str(number))
        await send(smtp_catcher, message)
    assert [message.subject for message in smtp_catcher.messages()] == ["0", "1", "2", "3", "4"]


async def test_mails_survive_a_restart_of_the_catcher(smtp_catcher):
    await send(smtp_catcher, letter())
    folder = smtp_catcher.mailbox.folder
    await smtp_catcher.stop()
    again = Catcher(folder)
    await again.start(smtp_port=0, http_port=0)
    [message] = (await get(again, "/messages")).json()
    assert message["subject"] == "Grüße, Ada"
    await again.stop()


async def test_the_bytes_are_kept_as_they_were_sent(smtp_catcher):
    sent = letter()
    await send(smtp_catcher, sent)
    [message] = smtp_catcher.messages()
    answer = await get(smtp_catcher, f"/messages/{message.id}.eml")
    assert answer.content == (smtp_catcher.mailbox.folder / f"{message.id}.eml").read_bytes()
    assert b"Plain" in answer.content


async def test_the_root_is_a_page_for_browsers_and_json_for_everybody_else(smtp_catcher):
    await send(smtp_catcher, letter())
    page = await get(smtp_catcher, "/", accept="text/html,*/*")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Grüße, Ada" in page.text
    assert (await get(smtp_catcher, "/")).json() == (await get(smtp_catcher, "/messages")).json()


async def test_a_mail_cannot_put_script_into_the_page(smtp_catcher):
    hostile = letter()
    hostile.replace_header("Subject", "<script>alert(1)</script>")
    hostile.clear_content()
    hostile.set_content('"><script>alert(2)</script>', subtype="html")
    await send(smtp_catcher, hostile)
    page = (await get(smtp_catcher, "/", accept="text/html")).text
    assert "<script>" not in page
    assert "iframe sandbox srcdoc" in page


async def test_a_mail_in_an_unknown_charset_is_shown_all_the_same(smtp_catcher):
    smtp_catcher.mailbox.keep(
        b"Subject: odd\r\nContent-Type: text/plain; charset=klingon\r\n\r\nhello", sender="a@b", to=["c@d"]
    )
    [message] = smtp_catcher.messages()
    assert message.text == "hello"


@pytest.mark.parametrize(
    "path", ["/messages/1.eml", "/messages/../up.json", "/elsewhere", "/messages/%2e%2e.eml"]
)
async def test_what_is_not_a_mail_is_not_found(smtp_catcher, path):
    assert (await get(smtp_catcher, path)).status_code == 404


async def test_only_reading_is_answered(smtp_catcher):
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.post(smtp_catcher.url + "/messages")).status_code == 405


async def test_garbage_instead_of_http_does_no_harm(smtp_catcher):
    reader, writer = await asyncio.open_connection("127.0.0.1", smtp_catcher.http_port)
    writer.write(b"\x00\xff garbage\r\n\r\n")
    assert b"405" in await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert json.loads((await get(smtp_catcher, "/messages")).text) == []
