"""The address of the client, from what proxies say in each of the headers that they use."""

from ipaddress import ip_network

import pytest

from services.gateway.http.client_address import AddressHeader, ClientAddressFinder, parse_address

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("::1/128"), ip_network("fd00::/8")]
PROXY = "10.0.0.1"


def find(*headers: tuple[str, str], peer: str | None = PROXY, header: AddressHeader | None = None) -> str | None:
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return ClientAddressFinder(TRUSTED, header).find(peer, encoded)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("198.51.100.1", ["203.0.113.1"], "198.51.100.1"),  # no trusted proxy added it
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.1"], "203.0.113.1"),  # what the client put there itself
        ("10.0.0.1", ["203.0.113.1, 10.0.0.2"], "203.0.113.1"),
        ("::1", ["10.0.0.9"], "10.0.0.9"),
        ("::ffff:10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
        ("::ffff:198.51.100.1", ["203.0.113.1"], "198.51.100.1"),
        (None, ["203.0.113.1"], None),
        ("", ["203.0.113.1"], None),
    ],
)
def test_the_client_is_the_last_one_that_is_no_proxy_of_ours(
    peer: str | None, forwarded: list[str], client: str | None
) -> None:
    assert find(*[("X-Forwarded-For", value) for value in forwarded], peer=peer) == client


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["1.2.3.4", "203.0.113.1"], "203.0.113.1"),  # the proxy added a line to that of the client
        (["203.0.113.1", "10.0.0.2"], "203.0.113.1"),
        (["1.2.3.4", "203.0.113.1, 10.0.0.3", "10.0.0.2"], "203.0.113.1"),
        (["203.0.113.1", ""], "203.0.113.1"),
        (["203.0.113.1, ,"], "203.0.113.1"),
    ],
)
def test_several_lines_are_one_list(lines: list[str], client: str) -> None:
    assert find(*[("X-Forwarded-For", line) for line in lines]) == client


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("203.0.113.7:4711", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("[2001:DB8::7]", "2001:db8::7"),
        ("2001:db8:0:0::7", "2001:db8::7"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("203.0.113.7:_port", "203.0.113.7"),
        ("unknown", None),
        ("_hidden", None),
        ("203.0.113.999", None),
        ("[2001:db8::7", None),
        ("", None),
    ],
)
def test_an_address_is_read_in_all_forms_that_proxies_write(said: str, address: str | None) -> None:
    parsed = parse_address(said)

    assert (None if parsed is None else str(parsed)) == address
    assert find(("X-Forwarded-For", said)) == (address if said else PROXY)


@pytest.mark.parametrize("said", ["unknown", "_gazonk", "rubbish"])
def test_a_client_that_the_nearest_proxy_does_not_know_is_not_guessed(said: str) -> None:
    assert find(("X-Forwarded-For", f"203.0.113.1, {said}")) is None
    assert find(("Forwarded", f"for=203.0.113.1, for={said}")) is None
    assert find(("X-Forwarded-For", f"{said}, 203.0.113.1")) == "203.0.113.1"


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["for=203.0.113.1"], "203.0.113.1"),
        (["For=203.0.113.1;proto=https;by=10.0.0.1"], "203.0.113.1"),
        (['for="[2001:db8:cafe::17]:4711"'], "2001:db8:cafe::17"),
        (['for="203.0.113.1:80"; proto=http'], "203.0.113.1"),
        (["for=1.2.3.4, for=203.0.113.1"], "203.0.113.1"),
        (["for=203.0.113.1, for=10.0.0.2;by=10.0.0.1"], "203.0.113.1"),
        (["for=1.2.3.4", "for=203.0.113.1"], "203.0.113.1"),
        (['for=203.0.113.1;host="a,b;for=9.9.9.9"'], "203.0.113.1"),
        (['for="\\2\\03.0.113.1"'], "203.0.113.1"),
        (["proto=https;for = 203.0.113.1"], "203.0.113.1"),
        (["for=203.0.113.1, proto=https"], None),  # the nearest proxy does not say from whom it has the request
        (['for="203.0.113.1'], None),
        ([""], PROXY),
    ],
)
def test_forwarded_is_read_as_rfc_7239_writes_it(lines: list[str], client: str | None) -> None:
    assert find(*[("Forwarded", line) for line in lines]) == client


@pytest.mark.parametrize("header", ["CF-Connecting-IP", "True-Client-IP", "X-Real-IP"])
def test_a_header_of_the_proxy_counts_only_if_the_setting_names_it(header: AddressHeader) -> None:
    said = (header, "203.0.113.1")

    assert find(said) == PROXY
    assert find(said, header=header) == "203.0.113.1"
    assert find(said, ("X-Forwarded-For", "1.2.3.4"), header=header) == "203.0.113.1"
    assert find(said, ("X-Forwarded-For", "1.2.3.4"), ("Forwarded", "for=1.2.3.4")) == "1.2.3.4"
    assert find(said, peer="198.51.100.1", header=header) == "198.51.100.1"  # not from a trusted proxy
    assert find(("X-Forwarded-For", "1.2.3.4"), header=header) == PROXY  # the client wrote it, the proxy did not


def test_the_named_header_wins_over_one_that_the_client_sent() -> None:
    headers = [("X-Forwarded-For", "1.2.3.4"), ("Forwarded", "for=203.0.113.1")]

    assert find(*headers) == "1.2.3.4"
    assert find(*headers, header="Forwarded") == "203.0.113.1"
    assert find(*reversed(headers), header="X-Forwarded-For") == "1.2.3.4"


def test_a_long_header_is_read_from_its_end() -> None:
    assert find(("X-Forwarded-For", "1.2.3.4, " * 100_000 + "203.0.113.1")) == "203.0.113.1"
    assert find(("Forwarded", 'for="' * 100_000 + ", for=203.0.113.1")) in ("203.0.113.1", None)
