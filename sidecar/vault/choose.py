"""Which store a configuration means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.vault.keys import GivenKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar import errors
    from sidecar.vault.host import Asker
    from sidecar.vault.sealed import Opened
    from sidecar.wire_start import VaultConfig


class Choice:
    """A configuration, read."""

    def __init__(self, config: Callable[[], VaultConfig | None], environ: Mapping[str, str], host: Asker) -> None:
        """Read `config` when the vault is used first; nothing is touched."""
        self._config = config
        self._environ = environ
        self._host = host

    def kind(self) -> str:
        """Return the kind that is asked for."""
        config = self._config()
        return config.type if config is not None else "auto"

    def problem(self) -> errors.SidecarError | None:
        """Return what is wrong with the settings themselves."""
        return None

    async def open(self) -> Opened:
        """Open the store. Raises StoreLocked or StoreUnavailable."""
        from sidecar.vault.memory import MemoryVault

        return MemoryVault(), GivenKey()
