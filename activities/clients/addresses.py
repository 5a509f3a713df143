"""Which addresses and URLs a tenant may make FlowTrack dial.

OutwardError
├── BlockedDestination   the URL, the host or an address behind it is not allowed
├── RefusedHeader        a header that would change the framing or forge ours
├── Unreachable          no answer, though there was time for one
└── DeadlineExceeded     the time for the whole exchange is over
"""

import re
import urllib.parse
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import idna

Address = IPv4Address | IPv6Address


class OutwardError(Exception):
    """A call to the outside world failed."""

    code = "outward_failed"

    def __init__(self, message: str = "", *, ambiguous: bool = False) -> None:
        super().__init__(message or self.__doc__)
        self.ambiguous = ambiguous


class BlockedDestination(OutwardError):
    """This destination is not allowed."""

    code = "blocked_destination"


class RefusedHeader(OutwardError):
    """This header may not be set."""

    code = "refused_header"


class Unreachable(OutwardError):
    """The target could not be reached or broke the exchange off."""

    code = "unreachable"


class DeadlineExceeded(OutwardError):
    """The target did not finish its answer in time."""

    code = "deadline_exceeded"


# IANA's special-purpose registries, complete, also where an entry is "globally reachable":
# nobody hosts a webhook on an anycast relay, and `ipaddress.is_global` misses a third of these.
BLOCKED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata is 100.100.100.200
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; AWS, GCP, Azure, Oracle metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocol assignments; Oracle's 192.0.0.192
        "192.0.2.0/24",  # TEST-NET-1
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relay anycast
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # TEST-NET-2
        "203.0.113.0/24",  # TEST-NET-3
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "168.63.129.16/32",  # Azure's platform address, public by number only
    )
)
BLOCKED_V6 = tuple(
    IPv6Network(network)
    for network in (
        # Only 2000::/3 is global unicast. What is outside holds ::, ::1, IPv4-compatible, -mapped and
        # -translated addresses, NAT64 (64:ff9b::/96, 64:ff9b:1::/48), discard-only 100::/64,
        # SRv6 5f00::/16, unique local, link-local, site-local and multicast.
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking, AMT, AS112, drone ids
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the former 6bone
        "3fff::/20",  # documentation
    )
)
# Never, not even in development: from here a cloud hands out credentials.
METADATA = frozenset(
    map(ip_address, ("169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"))
)
PRIVATE = tuple(map(IPv4Network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))) + tuple(
    map(IPv6Network, ("::1/128", "fc00::/7"))
)
# RFC 5214: an ISATAP interface id carries an IPv4 address under any prefix.
ISATAP = frozenset({0x00005EFE, 0x02005EFE})

MAX_URL = 2048
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]+)(/[^?#]*)?(\?[^#]*)?")
AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Names that resolve inside a network only, whatever its DNS says today.
INTERNAL = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home.arpa", "arpa", "onion")
LOCAL_NAMES = frozenset({"localhost", "ip6-localhost", "ip6-loopback"})
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Say where calls may go; the default is the rule for tenants in production."""

    allow_private: bool = False
    schemes: frozenset[str] = frozenset({"https"})
    ports: frozenset[int] | None = frozenset({443, 8443})  # None: any
    refused_hosts: frozenset[str] = frozenset()  # FlowTrack's own, lest it call itself in a loop

    def admits(self, address: Address) -> bool:
        """Say whether this address may be dialled."""
        if is_public(address):
            return True
        if not self.allow_private or address in METADATA:
            return False
        return any(address.version == network.version and address in network for network in PRIVATE)


PRODUCTION = Destination()
DEVELOPMENT = Destination(allow_private=True, schemes=frozenset({"http", "https"}), ports=None)
# A tenant's own mail server.
MAIL = Destination(schemes=frozenset({"smtp"}), ports=frozenset({25, 465, 587, 2525}))
# What the operator configured for the whole installation.
MAIL_OPERATOR = Destination(allow_private=True, schemes=frozenset({"smtp"}), ports=None)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A destination in normal form: the one thing that is stored, checked and dialled."""

    scheme: str
    host: str  # ASCII, lower case, no trailing dot; an IPv6 literal without brackets
    port: int
    path: str = "/"  # with the query
    address: Address | None = None  # of a literal

    @property
    def authority(self) -> str:
        """Name host and port as the Host header does."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if DEFAULT_PORTS.get(self.scheme) == self.port else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Write the normal form out."""
        return f"{self.scheme}://{self.authority}{self.path}"


def is_public(address: Address | str) -> bool:
    """Say whether an address lies in the open internet, outside every special-purpose range."""
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in BLOCKED_V4)
    if address.scope_id is not None or any(address in network for network in BLOCKED_V6):
        return False
    embedded = int(address) & 0xFFFF_FFFF_FFFF_FFFF
    return embedded >> 32 not in ISATAP or is_public(IPv4Address(embedded & 0xFFFF_FFFF))


def parse(url: str, policy: Destination) -> Target:
    """Read a URL into its normal form, or raise BlockedDestination."""
    match = URL.fullmatch(url) if len(url) <= MAX_URL else None
    if match is None or re.search(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff\\]", url):
        raise BlockedDestination("not an absolute URL without fragment, spaces and control characters")
    scheme = match[1].lower()
    if scheme not in policy.schemes:
        raise BlockedDestination(f"scheme not allowed: {scheme}")
    authority = AUTHORITY.fullmatch(match[2])
    if authority is None or re.search("[@%]", match[2]):
        raise BlockedDestination("the host must be a plain name or address, without user, zone or escapes")
    port = int(authority[2] or DEFAULT_PORTS.get(scheme, 0))
    target = parse_host(authority[1], port, policy, scheme=scheme)
    path = urllib.parse.quote((match[3] or "/") + (match[4] or ""), safe="/?%!$&'()*+,;=:@~-._[]")
    return Target(scheme=scheme, host=target.host, port=port, path=path, address=target.address)


def parse_host(host: str, port: int, policy: Destination, *, scheme: str = "smtp") -> Target:
    """Read a host and port that are not part of a URL, such as a mail server's."""
    if not 1 <= port <= 65535 or (policy.ports is not None and port not in policy.ports):
        raise BlockedDestination(f"port not allowed: {port}")
    name = host.removeprefix("[").removesuffix("]") if host.startswith("[") else _ascii(host)
    address = _literal(name, bracketed=host.startswith("["))
    if address is not None:
        if not policy.admits(address):
            raise BlockedDestination("address not allowed")
        return Target(scheme=scheme, host=str(address), port=port, address=address)
    _check_name(name, policy)
    return Target(scheme=scheme, host=name, port=port)


def _ascii(host: str) -> str:
    # IDNA 2008 without mapping: full-width and circled digits are not letters of any name.
    lowered = host.lower().removesuffix(".")
    if lowered.isascii():
        return lowered
    try:
        return idna.encode(lowered).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise BlockedDestination("not a valid host name") from error


def _literal(name: str, *, bracketed: bool) -> Address | None:
    # A last label of digits makes the whole host an IPv4 number to somebody's parser: only the
    # strict dotted form counts as one, every other (2130706433, 0x7f.1, 127.1, 017700000001) is refused.
    try:
        if bracketed:
            return IPv6Address(name)
        if NUMERIC.fullmatch(name.rpartition(".")[2]):
            return IPv4Address(name)
    except ValueError as error:
        raise BlockedDestination("not a valid address") from error
    return None


def _check_name(name: str, policy: Destination) -> None:
    labels = name.split(".")
    if len(name) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise BlockedDestination("not a valid host name")
    if name in policy.refused_hosts:
        raise BlockedDestination("this installation does not call itself")
    internal = len(labels) == 1 or name in LOCAL_NAMES or name.endswith(tuple(f".{end}" for end in INTERNAL))
    if internal and not policy.allow_private:
        raise BlockedDestination("an internal name")
