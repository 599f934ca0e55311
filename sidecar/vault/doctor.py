"""What `mcp-sidecar doctor` says of the vault: the store that the settings mean, opened and read for real.

Nothing is written: where `auto` has not been decided yet, it is tried in a folder that goes away again.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sidecar import errors
from sidecar.vault import open_vault
from sidecar.vault.choose import RECORD, Choice
from sidecar.vault.folder import ENTRIES
from sidecar.wire_start import VaultConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = "vault"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the doctor."""

    name: str
    state: str
    """ok, warning or problem."""
    text: str
    mend: str | None = None


class _NoHost:
    """No host is there to be asked."""

    def promises(self, name: str) -> bool:
        """Promise nothing."""
        del name
        return False

    async def ask(self, method: str, params: dict[str, Any] | bytes, seconds: float) -> bytes:
        """Refuse."""
        del params, seconds
        raise errors.StoreUnavailable(f"no host answers {method}", backend="host")


async def examine(config: VaultConfig | None, environ: Mapping[str, str]) -> list[Finding]:
    """Return what there is to say."""
    choice = Choice(lambda: config, environ, _NoHost())
    kind = choice.kind()
    if kind == "host":
        return [Finding(_NAME, "ok", "host: the host's own store; only the host can tell whether it works")]
    if kind not in {"auto", "file"} or _decided(choice.path()):
        return [await _try(config, environ, choice.path())]
    with tempfile.TemporaryDirectory() as folder:
        own = config if config is not None else VaultConfig(type="auto")
        tried = VaultConfig(type=own.type, path=os.path.join(folder, "vault"), url=own.url, key_file=own.key_file)  # noqa: PTH118 - a string
        return [await _try(tried, environ, choice.path())]


def _decided(folder: str) -> bool:
    """Tell whether the folder is in use: a key that was given leaves nothing to decide, but entries."""
    return Path(folder, RECORD).exists() or Path(folder, ENTRIES).exists()


async def _try(config: VaultConfig | None, environ: Mapping[str, str], folder: str) -> Finding:
    vault = open_vault(lambda: config, environ, _NoHost())
    try:
        await vault.load(vault.key("doctor"))
    except errors.StoreLocked as error:
        return Finding(_NAME, "problem", error.message, "unlock the user's keyring, or choose another with --vault")
    except errors.SidecarError as error:
        return Finding(_NAME, "problem", error.message, "mend that, or choose another with --vault")
    else:
        text = f"{vault.health()['type']} works"
        if vault.kind in {"auto", "file", "keyring"}:
            text += f", in {folder}"
        if vault.kind == "memory":
            return Finding(_NAME, "warning", f"{text}, but credentials end with the process", "choose file or keyring")
        return Finding(_NAME, "ok", text)
    finally:
        await vault.aclose()
