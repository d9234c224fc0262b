"""`GET /api/whoami`: whom the service takes a caller for, and by what."""

import pytest

from contract.answers import bearer, key_entry, refused, serving
from homelab_ai.api.whoami import WhoamiResponse
from homelab_ai.settings import Settings

KEYS = [key_entry("app", "k", "embed", models=["mpnet", "minilm"]), key_entry("mere", "m", "caption")]
EVERYTHING = ["admin", "caption", "crawl", "embed", "read"]


def asked(
    settings: Settings, headers: dict[str, str], *, peer: str = "192.168.1.7", **security: object
) -> dict[str, object]:
    with serving(settings, peer=peer, security={"api_keys": KEYS, **security}) as client:
        response = client.get("/api/whoami", headers=headers)
        assert response.status_code == 200, response.text
        answer: dict[str, object] = response.json()
    WhoamiResponse.model_validate(answer)
    return answer


def test_a_key_is_told_what_it_opens(settings: Settings) -> None:
    assert asked(settings, bearer("k")) == {
        "name": "app",
        "scopes": ["embed"],
        "models": ["minilm", "mpnet"],
        "authenticated_by": "key",
    }
    assert asked(settings, bearer("m"))["models"] is None


def test_an_address_is_told_whose_it_is(settings: Settings) -> None:
    living_room = {"cidr": "192.168.1.0/24", "name": "living-room", "scopes": ["embed", "read"]}
    told = asked(settings, {}, networks=[living_room])
    assert told == {
        "name": "living-room",
        "scopes": ["embed", "read"],
        "models": None,
        "authenticated_by": "network",
    }
    assert asked(settings, bearer("m"), networks=[living_room])["name"] == "mere", "a key goes before the address"


@pytest.mark.parametrize(
    ("security", "name", "by"),
    [({"allow_localhost": True}, "localhost", "localhost"), ({"auth_enabled": False}, "anyone", "nobody")],
)
def test_who_needs_no_key_is_told_why(settings: Settings, security: dict[str, object], name: str, by: str) -> None:
    told = asked(settings, {}, peer="127.0.0.1", **security)
    assert told == {"name": name, "scopes": EVERYTHING, "models": None, "authenticated_by": by}
    assert asked(settings, bearer("k"), peer="127.0.0.1", **security)["authenticated_by"] == "key"


def test_nobody_is_told_nothing(settings: Settings) -> None:
    with serving(settings, peer="192.168.1.7", security={"api_keys": KEYS}) as client:
        refused(client.get("/api/whoami"), 401, "UNAUTHORIZED")
        refused(client.get("/api/whoami", headers=bearer("wrong")), 401, "UNAUTHORIZED")
