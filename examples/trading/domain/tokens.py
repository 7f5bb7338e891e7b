"""Signed, expiring tokens: HMAC-SHA256 (RFC 2104) over a subject and an expiry.

A token is `subject.expiry.signature`, subject and signature in URL-safe base64 without padding
and the expiry in ms. Time is an argument, so a replay of last year's trades judges last year's
tokens as they were judged then.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass


class TokenError(ValueError):
    """A token that does not hold; the message says why and never repeats the token."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token states."""

    subject: str
    expires_at: int
    """In ms since the epoch; the token no longer holds at that time."""


def issue(subject: str, secret: str, *, now: int, lifetime_ms: int) -> str:
    """A token for `subject` that holds from `now` for `lifetime_ms`."""
    if not secret:
        raise ValueError("a token needs a secret: an empty one signs nothing")
    if lifetime_ms <= 0:
        raise ValueError(f"a token's lifetime must be positive, not {lifetime_ms} ms")
    body = f"{_encode(subject.encode())}.{now + lifetime_ms}"
    return f"{body}.{_sign(body, secret)}"


def verify(token: str, secret: str, *, now: int) -> Claims:
    """The claims of `token`, or `TokenError`; the signature is judged before anything it covers.

    Signatures are compared in constant time, so that the answer's delay tells nothing of them.
    """
    body, _, signature = token.rpartition(".")
    if not body or body.count(".") != 1:
        raise TokenError("malformed token: expected subject.expiry.signature; log in again")
    if not secret or not hmac.compare_digest(signature.encode(), _sign(body, secret).encode()):
        raise TokenError("the token's signature does not match; log in again")
    subject, _, expiry = body.partition(".")
    try:
        claims = Claims(_decode(subject).decode(), int(expiry))
    except (ValueError, binascii.Error) as error:
        raise TokenError("malformed token: its claims cannot be read; log in again") from error
    if now >= claims.expires_at:
        raise TokenError("the token has expired; log in again")
    return claims


def _sign(body: str, secret: str) -> str:
    return _encode(hmac.new(secret.encode(), body.encode(), hashlib.sha256).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
