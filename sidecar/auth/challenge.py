"""The WWW-Authenticate header (RFC 9110 section 11, RFC 6750 section 3), as far as a client needs it."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PARAM: Final = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))\s*(?:,|\Z)")
_LONGEST: Final = 16384
_SCHEMES: Final = ("dpop", "bearer")


def parse(values: list[str]) -> dict[str, dict[str, str]]:
    """Return the parameters of each challenge by its scheme, lower case; what cannot be read is left out."""
    found: dict[str, dict[str, str]] = {}
    for value in values:
        rest = value[:_LONGEST]
        current: dict[str, str] | None = None
        while rest := rest.lstrip(" \t,"):
            # A parameter is a name and "="; anything else begins the next challenge.
            if current is not None and (param := _PARAM.match(rest)):
                text = param[2] if param[2] is not None else param[3]
                current.setdefault(param[1].lower(), re.sub(r"\\(.)", r"\1", text))
                rest = rest[param.end() :]
                continue
            scheme = _TOKEN.match(rest)
            if scheme is None:
                break
            current = found.setdefault(scheme[0].lower(), {})
            rest = rest[scheme.end() :]
            if rest[:1] not in {"", " ", "\t", ","}:
                break
    return found


def bearer(values: list[str]) -> dict[str, str]:
    """Return the parameters of the challenge for tokens: bearer and DPoP together, DPoP first."""
    challenges = parse(values)
    merged: dict[str, str] = {}
    for scheme in _SCHEMES:
        for name, text in challenges.get(scheme, {}).items():
            merged.setdefault(name, text)
    return merged


def scopes(text: str | None) -> list[str]:
    """Return a scope string's scopes in their order, each once; characters that no scope has are dropped with it."""
    if not text:
        return []
    return list(dict.fromkeys(part for part in text.split() if re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}", part)))
