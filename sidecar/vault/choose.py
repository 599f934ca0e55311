"""Which store a configuration means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.vault.keys import GivenKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar import errors
    from sidecar.vault.host import Asker
    from sidecar.vault.sealed import Opened
    from sidecar.wire_start import VaultConfig


class Choice:
    """A configuration, read."""

    def __init__(self, config: VaultConfig | None, environ: Mapping[str, str], host: Asker) -> None:
        """Read it; nothing is touched."""
        self.kind = config.type if config is not None else "auto"
        self._config = config
        self._environ = environ
        self._host = host

    def problem(self) -> errors.SidecarError | None:
        """Return what is wrong with the settings themselves."""
        return None

    async def open(self) -> Opened:
        """Open the store. Raises StoreLocked or StoreUnavailable."""
        from sidecar.vault.memory import MemoryVault

        return MemoryVault(), GivenKey()
