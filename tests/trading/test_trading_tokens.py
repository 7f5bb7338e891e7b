from __future__ import annotations

import base64
import hmac

import pytest

from examples.trading.domain.tokens import Claims, TokenError, issue, verify

SECRET = "a secret of the test"
NOW = 1_700_000_000_000


def test_a_token_holds_until_it_expires():
    token = issue("olga.ö@desk", SECRET, now=NOW, lifetime_ms=1000)
    assert verify(token, SECRET, now=NOW + 999) == Claims("olga.ö@desk", NOW + 1000)
    with pytest.raises(TokenError, match="expired"):
        verify(token, SECRET, now=NOW + 1000)


def test_another_secret_does_not_verify():
    token = issue("olga", "another secret", now=NOW, lifetime_ms=1000)
    with pytest.raises(TokenError, match="signature"):
        verify(token, SECRET, now=NOW)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_no_part_can_be_changed(part):
    parts = issue("olga", SECRET, now=NOW, lifetime_ms=1000).split(".")
    parts[part] = ("1" if parts[part][0] != "1" else "2") + parts[part][1:]
    with pytest.raises(TokenError, match="signature"):
        verify(".".join(parts), SECRET, now=NOW)


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c.d", "..", "é.1.ü"])
def test_rubbish_is_an_error_that_does_not_repeat_it(text):
    with pytest.raises(TokenError) as caught:
        verify(text, SECRET, now=NOW)
    assert not text.strip(".") or text not in str(caught.value) or len(text) == 1


def test_an_empty_secret_neither_signs_nor_verifies():
    with pytest.raises(ValueError, match="secret"):
        issue("olga", "", now=NOW, lifetime_ms=1)
    with pytest.raises(TokenError):
        verify(issue("olga", SECRET, now=NOW, lifetime_ms=1), "", now=NOW)


def test_a_lifetime_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        issue("olga", SECRET, now=NOW, lifetime_ms=0)


def test_the_signature_is_hmac_sha256_of_what_stands_before_it():
    token = issue("olga", SECRET, now=NOW, lifetime_ms=1000)
    body, _, signature = token.rpartition(".")
    assert body == f"b2xnYQ.{NOW + 1000}"  # "olga" in base64
    digest = hmac.digest(SECRET.encode(), body.encode(), "sha256")
    assert base64.urlsafe_b64decode(signature + "=") == digest


def test_a_signature_holds_for_its_expiry_only():
    early = issue("olga", SECRET, now=NOW, lifetime_ms=1000)
    late = issue("olga", SECRET, now=NOW, lifetime_ms=9000)
    mixed = ".".join([*late.split(".")[:2], early.split(".")[2]])
    with pytest.raises(TokenError, match="signature"):
        verify(mixed, SECRET, now=NOW)


def test_signatures_are_compared_in_constant_time(monkeypatch):
    compared = []
    same = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(1) or same(a, b))
    verify(issue("olga", SECRET, now=NOW, lifetime_ms=1), SECRET, now=NOW)
    assert compared
