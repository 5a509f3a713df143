"""The form's page: labels, errors beside the fields, no script, and nothing of a stranger's that runs."""

from html.parser import HTMLParser
from typing import Any

import pytest

from tests.api.conftest import Publish, Tenant, count
from tests.api.test_intake import token_in

pytestmark = pytest.mark.anyio

VOID = {"input", "meta", "link", "br"}
PAYLOADS = [
    "<script>alert(1)</script>",
    '"><script>alert(1)</script>',
    "'><img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    '" onfocus=alert(1) autofocus="',
    "' onmouseover='alert(1)",
    "</textarea><script>alert(1)</script>",
    "</option></select><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "<iframe src=javascript:alert(1)>",
    "<body onload=alert(1)>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<a href=javascript:alert(1)>x</a>",
    "<form action=//evil><button>x",
    "<meta http-equiv=refresh content=0;url=//evil>",
    "<base href=//evil>",
    "<link rel=stylesheet href=//evil>",
    "<object data=//evil>",
    "<embed src=//evil>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<!--<script>alert(1)//-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "{{constructor.constructor('alert(1)')()}}",
    "${alert(1)}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u2028<script>alert(1)</script>",
]


class Page(HTMLParser):
    """Reads a page as a browser does: elements, their attributes, their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [a for name, a in self.elements if name == tag and wanted.items() <= a.items()]

    def by_id(self, identity: str) -> dict[str, str | None]:
        return next(a for _, a in self.elements if a.get("id") == identity)


async def test_the_page_labels_every_field_and_runs_no_script(publish: Publish, anonymous):
    form = await publish()
    answer = await anonymous.get(form.path)
    assert answer.status_code == 200
    page = Page(answer.text)
    assert page.open == []
    assert page.all("script") == []
    assert page.all("html", lang="en")
    assert page.all("meta", name="viewport")
    labels = {label["for"] for label in page.all("label")}
    fields = [
        a for tag, a in page.elements if tag in ("input", "select", "textarea") and a.get("type") != "hidden"
    ]
    assert {field["id"] for field in fields} == labels
    assert [field["name"] for field in fields] == ["email", "first_name", "budget", "seats", "news"]
    email = page.by_id("field-email")
    assert (email["type"], email["autocomplete"]) == ("email", "email")
    assert "required" in email
    assert page.by_id("field-first_name")["aria-describedby"] == "field-first_name-help"
    assert [o["value"] for o in page.all("option")] == ["", "$500", "$5000", "$10000+"]
    assert page.all("form") == [{"method": "post", "action": form.path, "accept-charset": "utf-8"}]
    assert "Write to us." in page.texts
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert [link["href"] for link in page.all("link")] == ["/assets/flowtrack.css"]


async def test_mistakes_stand_beside_their_fields_and_answers_stay(
    publish: Publish, anonymous, acme: Tenant, database
):
    form = await publish()
    token = token_in((await anonymous.get(form.path)).text)
    data = {"email": "nonsense", "first_name": "Ada", "budget": "$500", "seats": "many", "_token": token}
    answer = await anonymous.post(form.path, data=data)
    assert answer.status_code == 422
    page = Page(answer.text)
    assert [a["href"] for a in page.all("a")] == ["#field-email", "#field-seats"]
    assert page.all("div", role="alert")
    for key in ("email", "seats"):
        field = page.by_id(f"field-{key}")
        assert field["aria-invalid"] == "true"
        assert f"field-{key}-error" in (field["aria-describedby"] or "")
        assert page.by_id(f"field-{key}-error")
    assert "autofocus" in page.by_id("field-email")
    assert page.by_id("field-first_name")["value"] == "Ada"
    assert "aria-invalid" not in page.by_id("field-first_name")
    assert [o["value"] for o in page.all("option") if "selected" in o] == ["$500"]
    assert any(text.startswith("Error: ") for text in page.texts)
    assert await count(database, acme.workspace_id, "leads") == 0
    fixed = {**data, "email": "a@example.com", "seats": "3", "_token": token_in(answer.text)}
    assert (await anonymous.post(form.path, data=fixed)).status_code == 200


async def test_the_thank_you_page_shows_the_message(publish: Publish, anonymous):
    form = await publish(successMessage="See you soon.\n\nYours, <b>Acme</b>")
    answer = await anonymous.post(form.path, data={"email": "a@example.com", "news": "true"})
    assert answer.status_code == 200
    page = Page(answer.text)
    assert page.all("div", role="status")
    assert "See you soon." in page.texts
    assert page.all("b") == []


async def test_multipart_is_taken_too(publish: Publish, anonymous, acme: Tenant):
    form = await publish()
    parts = {"email": (None, "a@example.com"), "first_name": (None, "Ada")}
    assert (await anonymous.post(form.path, files=parts)).status_code == 200
    assert (await acme.client.get("/v1/leads")).json()["data"][0]["first_name"] == "Ada"


async def test_what_cannot_be_sent_says_so_on_a_page(publish: Publish, anonymous):
    form = await publish(duplicatePolicy="reject")
    assert (await anonymous.post(form.path, data={"email": "a@example.com"})).status_code == 200
    again = await anonymous.post(form.path, data={"email": "a@example.com", "seats": "2"})
    assert again.status_code == 409
    assert Page(again.text).all("div", role="alert")
    old = await anonymous.post(form.path, data={"email": "b@example.com", "_token": "x"})
    assert old.status_code == 403
    assert token_in(old.text) != "x"
    assert Page(old.text).by_id("field-email")["value"] == "b@example.com"
    missing = await anonymous.get("/f/acme/nowhere")
    assert (missing.status_code, Page(missing.text).all("h1")) == (404, [{}])


async def test_hostile_text_stays_text_everywhere(publish: Publish, anonymous, acme: Tenant):
    questions: list[dict[str, Any]] = [
        {"field_key": "email", "label": "E-mail", "field_type": "EMAIL", "is_required": True}
    ]
    form = await publish(questions=questions)
    path = f"/v1/workflows/{form.workflow_id}"
    field = await acme.make(
        f"{path}/form-fields", {"field_key": "x", "label": "x", "field_type": "DROPDOWN", "options": ["a"]}
    )
    note = await acme.make(f"{path}/form-fields", {"field_key": "y", "label": "y", "field_type": "TEXT"})
    plain = Page((await anonymous.get(form.path)).text)
    for payload in PAYLOADS:
        shown = {"label": payload, "placeholder": payload, "help_text": payload}
        for one, extra in ((field, {"options": [payload]}), (note, {})):
            changed = await acme.client.patch(f"{path}/form-fields/{one['id']}", json={**shown, **extra})
            assert changed.status_code == 200, changed.text
        name = {"name": payload.replace("\u2028", ""), "description": payload}
        assert (await acme.client.patch(path, json=name)).status_code == 200
        page = Page((await anonymous.get(form.path)).text)
        assert _shape(page) - _shape(plain) <= {
            ("p", "class"),
            ("p", "id"),
            ("input", "placeholder"),
            ("input", "aria-describedby"),
            ("select", "aria-describedby"),
            ("select", "placeholder"),
            ("br", ""),
        }, payload
        echoed = await anonymous.post(form.path, data={"email": payload, "y": payload, payload: payload})
        assert echoed.status_code == 422
        assert not {tag for tag, _ in Page(echoed.text).elements} & {
            "script",
            "svg",
            "img",
            "iframe",
            "b",
            "math",
        }
        for _, attributes in Page(echoed.text).elements:
            assert not any(key.startswith("on") for key in attributes), payload


def _shape(page: Page) -> set[tuple[str, str]]:
    """Name every element with its attributes, whatever their values."""
    return {(tag, key) for tag, attributes in page.elements for key in (attributes or {"": None})}


async def test_the_bare_address_leads_to_the_reference(anonymous):
    answer = await anonymous.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
