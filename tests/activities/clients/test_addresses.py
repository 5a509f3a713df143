"""Addresses and URLs: what a tenant may make FlowTrack dial."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.clients import addresses
from activities.clients.addresses import DEVELOPMENT, MAIL, PRODUCTION, BlockedDestination, Destination

BLOCKED_TEXT = """
127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200
100.127.255.255 169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9
192.0.0.170 192.0.0.192 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255
192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1
255.255.255.255 168.63.129.16 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1
64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1 100::1 100:0:0:1::1 2001::1 2001:0:7f00:1:: 2001:1::1
2001:2::1 2001:3::1 2001:4:112::1 2001:10::1 2001:20::1 2001:30::1 2001:db8::1 2002:7f00:1::
2002:a9fe:a9fe::1 2002:808:808::1 2620:4f:8000::1 3ffe::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254
fd20:ce::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 4000::1 8000::1 2606:4700::5efe:7f00:1
2606:4700::200:5efe:a00:1
"""
BLOCKED = BLOCKED_TEXT.split()
PUBLIC_TEXT = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 126.255.255.255
128.0.0.0 168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0
192.0.1.0 192.0.3.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
2001:200::1 2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450::1 2003::1 2606:4700::5efe:808:808
"""
PUBLIC = PUBLIC_TEXT.split()


@pytest.mark.parametrize("address", BLOCKED)
def test_special_purpose_addresses_are_not_public(address):
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_beside_the_special_ranges_are_public(address):
    assert addresses.is_public(address)


@given(st.ip_addresses(v=4))
def test_what_the_standard_library_calls_private_is_never_public(address):
    if not address.is_global or address.is_multicast:
        assert not addresses.is_public(address)


@given(st.ip_addresses(v=4))
def test_no_embedding_smuggles_an_address_in(address: IPv4Address):
    number = int(address)
    embeddings = [
        0xFFFF << 32 | number,
        number,
        0xFFFF << 48 | number,
        0x64FF9B << 96 | number,
        0x2002 << 112 | number << 80,
        0x20010000 << 96 | (number ^ 0xFFFFFFFF),
    ]
    assert not any(addresses.is_public(IPv6Address(embedded)) for embedded in embeddings)


@pytest.mark.parametrize("text", ["", "localhost", "1.1.1", "01.1.1.1", "0x1.1.1.1", "1.1.1.1 ", "１.1.1.1"])
def test_what_is_no_address_is_not_public(text):
    assert not addresses.is_public(text)


@pytest.mark.parametrize("address", BLOCKED)
def test_a_url_with_a_blocked_literal_is_refused(address):
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(BlockedDestination) as caught:
        addresses.parse(f"https://{host}/hook", PRODUCTION)
    assert caught.value.code == "blocked_destination"
    assert not caught.value.ambiguous


URLS = [
    "https://2130706433/",
    "https://0x7f.1/",
    "https://0x7f000001/",
    "https://0X7F.0.0.1/",
    "https://127.1/",
    "https://0/",
    "https://0x/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://127.0.0.01/",
    "https://1.1.1.256/",
    "https://1.1.1.1.1/",
    "https://127.0.0.1./",
    "https://１２７.０.０.１/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://app.localhost/",
    "https://ip6-localhost/",
    "https://ip6-loopback/",
    "https://metadata.google.internal/",
    "https://metadata/",
    "https://printer.local/",
    "https://good.example@127.0.0.1/",
    "https://good.example:443@127.0.0.1/",
    "https://good.example#@127.0.0.1/",
    "https://good.example%2f@127.0.0.1/",
    "https://good.example%00.evil.example/",
    "https://good.example/#fragment",
    "https://@good.example/",
    "https://good.example\\@127.0.0.1/",
    "https:\\\\good.example/",
    "https://good.example\t/",
    "https://good.example/a b",
    "https://good.example/\r\nX: y",
    " https://good.example/",
    "https://good.example/\n",
    "https://[fe80::1%25eth0]/",
    "https://[::1/",
    "https://::1/",
    "https://[1.1.1.1]/",
    "https://[]/",
    "https:good.example",
    "https:/good.example",
    "https:///good.example",
    "https://",
    "https://:443/",
    "https://good.example:/",
    "//good.example/",
    "good.example",
    "",
    "file:///etc/passwd",
    "gopher://good.example/",
    "ftp://good.example/",
    "dict://good.example:443/",
    "data:text/html,x",
    "javascript:alert(1)",
    "http://good.example/",
    *(f"https://good.example:{port}/" for port in (0, 22, 25, 80, 5432, 6379, 7233, 65536, 99999, 100443)),
    "https://good.example:-1/",
    "https://good.example:４４３/",
    "https://good..example/",
    "https://.good.example/",
    "https://-good.example/",
    "https://good-.example/",
    f"https://{'a' * 64}.example/",
    f"https://{'a.' * 130}example/",
    f"https://good.example/{'a' * 2100}",
    "https://good.example/\ud800",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_hides_its_destination_is_refused(url):
    with pytest.raises(BlockedDestination):
        addresses.parse(url, PRODUCTION)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://Good.Example", "https://good.example/"),
        ("HTTPS://good.example.:443/a?b=c", "https://good.example/a?b=c"),
        ("https://good.example:8443/%2e%2e/x", "https://good.example:8443/%2e%2e/x"),
        ("https://good.example?x=1", "https://good.example/?x=1"),
        ("https://bücher.example/straße", "https://xn--bcher-kva.example/stra%C3%9Fe"),
        ('https://good.example/"<>', "https://good.example/%22%3C%3E"),
        ("https://example。com/", "https://example.com/"),
        ("https://1.1.1.1/", "https://1.1.1.1/"),
        ("https://[2606:4700:4700:0::1111]:8443/", "https://[2606:4700:4700::1111]:8443/"),
        ("https://good.example/@user", "https://good.example/@user"),
    ],
)
def test_a_good_url_has_one_normal_form(url, normal):
    target = addresses.parse(url, PRODUCTION)
    assert target.url == normal
    assert addresses.parse(target.url, PRODUCTION) == target


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8025/x",
        "http://localhost:1/",
        "http://[::1]:9/",
        "http://mailpit:1025/",
        "http://10.1.2.3/",
    ],
)
def test_development_may_call_private_hosts_on_any_port(url):
    assert addresses.parse(url, DEVELOPMENT).url == url


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "::ffff:127.0.0.1", "0.0.0.0"],
)
def test_not_even_development_may_call_metadata_or_disguises(address):
    assert not DEVELOPMENT.admits(ip_address(address))


def test_an_installation_refuses_to_call_itself():
    policy = Destination(refused_hosts=frozenset({"api.flowtrack.example"}))
    with pytest.raises(BlockedDestination):
        addresses.parse("https://API.flowtrack.example./v1", policy)


def test_a_mail_server_stands_on_a_mail_port():
    assert addresses.parse_host("smtp.good.example", 587, MAIL).host == "smtp.good.example"
    for host, port in [("smtp.good.example", 443), ("localhost", 25), ("127.0.0.1", 25), ("[::1]", 25)]:
        with pytest.raises(BlockedDestination):
            addresses.parse_host(host, port, MAIL)
