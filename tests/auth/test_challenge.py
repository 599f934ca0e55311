"""The header in which a server says how to log in."""

from __future__ import annotations

import pytest

from sidecar.auth.challenge import bearer, parse, scopes


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], {}),
        (["Bearer"], {}),
        (['Bearer resource_metadata="https://a/b", scope="x y"'], {"resource_metadata": "https://a/b", "scope": "x y"}),
        (['Basic realm="a, b", Bearer error=invalid_token'], {"error": "invalid_token"}),
        (["Negotiate abc==", 'bearer  error = "x"'], {"error": "x"}),
        (['Bearer error="say \\"hi\\""'], {"error": 'say "hi"'}),
        (['DPoP algs="ES256", error="use_dpop_nonce", Bearer error="y"'], {"algs": "ES256", "error": "use_dpop_nonce"}),
        (['Bearer scope="first", scope="second"'], {"scope": "first"}),
        (['Bearer scope="never closed'], {}),
        (["\x00\x01"], {}),
        (["=" * 50_000], {}),
        (["Bearer " + "a=b, " * 20_000], {"a": "b"}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_parameters_of_the_bearer_challenge_are_read(values: list[str], found: dict[str, str]) -> None:
    assert bearer(values) == found


def test_schemes_are_kept_apart() -> None:
    assert parse(['Basic realm="r", Bearer realm="s"']) == {"basic": {"realm": "r"}, "bearer": {"realm": "s"}}


def test_a_scope_has_only_characters_of_a_scope() -> None:
    assert scopes('read  write read "evil" \x7f') == ["read", "write"]
    assert scopes(None) == scopes("") == []
