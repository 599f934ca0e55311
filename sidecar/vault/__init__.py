"""Where credentials rest: sealed records in a keyring, files, memory, the host's own store, or a Redis server.

Importing this package costs nothing: what a kind of store needs is imported at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.vault.base import Conflict, Entry, Key, Vault
from sidecar.vault.sealed import Sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.vault.host import Asker
    from sidecar.wire_start import VaultConfig

__all__ = ["Conflict", "Entry", "Key", "Sealed", "Vault", "open_vault"]


def open_vault(config: Callable[[], VaultConfig | None], environ: Mapping[str, str], host: Asker | None) -> Sealed:
    """Return the vault that `config` asks for at its first use (None: `auto`); until then nothing is touched."""
    from sidecar.vault.choose import Choice

    choice = Choice(config, environ, host)
    return Sealed(choice.kind, choice.open, choice.problem, choice.aclose)
