"""HTML bodies: what survives the allow-list, and what it says in plain text."""

import re

import pytest

from activities.clients import markup

HARMLESS = '<p style="color:red">Hi <b>you</b>, <a href="https://example.com/a?b=c&amp;d=e">see</a></p>'

LINKS = [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    " javascript:alert(1)",
    "java\tscript:alert(1)",
    "java&#10;script:alert(1)",
    "&#106;avascript:alert(1)",
    "\x01javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/relative",
    "relative",
    "#anchor",
    "?q",
    "",
    "http:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https://",
    "https://bank.example@evil.example/",
    "https://bank.example\\@evil.example/",
    "https://evil.example/ x",
    "ftp://evil.example/",
    "file:///etc/passwd",
    "cid:logo",
    "mailto:",
    "mailto:?bcc=x@example.com",
    "tel:1",
]


@pytest.mark.parametrize("url", LINKS)
def test_a_link_that_is_not_absolute_web_or_mail_is_removed(url):
    cleaned = markup.clean(f'<a href="{url}">x</a>')
    assert "href" not in cleaned
    assert ">x</a>" in cleaned


@pytest.mark.parametrize(
    "url", ["https://example.com", "http://example.com/a/@b?c=d#e", "mailto:a@example.com?subject=x"]
)
def test_an_absolute_link_stays(url):
    assert f'href="{url}"' in markup.clean(f'<a href="{url}">x</a>')
    assert markup.is_link(url)


@pytest.mark.parametrize("url", [*LINKS, "http://example.com/a.png"])
def test_an_image_comes_by_https_or_cid_only(url):
    if url != "cid:logo":
        assert "src" not in markup.clean(f'<img src="{url}">')


@pytest.mark.parametrize("url", ["https://example.com/a.png", "cid:logo", "cid:part1.06090408@example.com"])
def test_a_good_image_stays(url):
    assert f'src="{url}"' in markup.clean(f'<img src="{url}" alt="x">')


ATTACKS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=https://evil.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<body onload=alert(1)>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<object data='data:text/html,<script>alert(1)</script>'></object>",
    "<embed src='javascript:alert(1)'>",
    "<form action='https://evil.example'><input name=p><button>x</button></form>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<link rel=stylesheet href='https://evil.example/x.css'>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<div style='background:url(https://evil.example/x)'>x</div>",
    "<div style='background-color:url(javascript:alert(1))'>x</div>",
    "<div style='width:expression(alert(1))'>x</div>",
    "<div style='color:red;-moz-binding:url(x)'>x</div>",
    "<div style='font-family:\\75rl(x)'>x</div>",
    "<table background='https://evil.example/x'><tr><td>x</td></tr></table>",
    "<img srcset='https://evil.example/x 2x'>",
    "<img src='https://good.example/x' lowsrc='javascript:alert(1)'>",
    "<a href='https://good.example' onclick=alert(1)>x</a>",
    "<a href='https://good.example' ping='https://evil.example'>x</a>",
    "<p id=x class=y>x</p>",
    "<!--[if mso]><script>alert(1)</script><![endif]-->",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<textarea><img title='</textarea><img src=x onerror=alert(1)>'></textarea>",
    "<<script>alert(1);//<</script>",
    '<img """><script>alert(1)</script>">',
    "<video><source onerror=alert(1)></video>",
    "<details open ontoggle=alert(1)>",
    "<xss style='behavior:url(x)'>x</xss>",
    "<template><script>alert(1)</script></template>",
]
FORBIDDEN = re.compile(
    r"<(?:script|svg|math|style|iframe|object|embed|form|input|button|base|meta|link|body|video|source|details|"
    r"template|noscript|textarea|!--)|[\s\"']on\w+\s*=|javascript:|url\(|expression|binding|behavior|background=|"
    r"srcset|lowsrc|ping|\sid=|\sclass=|evil\.example",
    re.IGNORECASE,
)


@pytest.mark.parametrize("html", ATTACKS)
def test_active_content_is_removed(html):
    cleaned = re.sub(r"(?:&lt;|&gt;|&amp;|>[^<]*<)", "><", markup.clean(f"<p>before</p>{html}<p>after</p>"))
    assert not FORBIDDEN.search(cleaned)


def test_what_is_harmless_stays_as_it_is():
    assert markup.clean(HARMLESS) == HARMLESS


def test_cleaning_twice_changes_nothing():
    for html in (HARMLESS, *ATTACKS):
        once = markup.clean(html)
        assert markup.clean(once) == once


def test_plain_text_says_the_same():
    html = """
      <h1>Hello   <b>Léa</b></h1><p>Two<br>lines &amp; a
      <a href="https://example.com/x">link</a>, <a href="https://example.com">https://example.com</a></p>
      <ul><li>one</li><li>two</li></ul><table><tr><td>a</td><td>b</td></tr></table>
      <script>no</script><style>no</style><img src="cid:x" alt="logo">
      <a href="mailto:a@example.com">a@example.com</a>
    """
    assert markup.text(html) == (
        "Hello Léa\n\nTwo\nlines & a link (https://example.com/x), https://example.com\n\n"
        "- one\n- two\n\na b\n\nlogo a@example.com\n"
    )
