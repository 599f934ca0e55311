"""The configuration file of the command line: `{mcpServers?, vault?, egress?, limits?}` (wire section 2, `--config`).

Read whole before anything is served; any fault, an unsupported key too, keeps the program from starting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import BaseModel, ValidationError

from sidecar import config, desktop, wire, wire_start
from sidecar.config import pointer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar import errors

_SECTIONS: Final[dict[str, tuple[type[BaseModel], type[Any]]]] = {
    "vault": (wire.VaultConfig, wire_start.VaultConfig),
    "egress": (wire.Egress, wire_start.Egress),
    "limits": (wire.ProcessLimits, wire_start.ProcessLimits),
}


@dataclass
class Settings:
    """What a configuration file says."""

    servers: list[wire.ConnectParams] = field(default_factory=list)
    vault: wire_start.VaultConfig | None = None
    egress: wire_start.Egress | None = None
    limits: wire_start.ProcessLimits | None = None
    faults: list[errors.InvalidParams] = field(default_factory=list)
    """Every one of them; the file is of no use while there are any."""


def load(path: str, environ: Mapping[str, str]) -> Settings:
    """Read a file; `${VAR}` in its texts come from `environ`."""
    settings = Settings()
    try:
        document = desktop.parse(Path(path).read_bytes())
    except OSError as error:
        settings.faults.append(config.invalid("", f"cannot be read ({error.strerror})"))
        return settings
    except ValueError as error:
        settings.faults.append(config.invalid("", str(error)))
        return settings
    if not isinstance(document, desktop.Pairs):
        settings.faults.append(config.invalid("", "must be an object of mcpServers, vault, egress and limits"))
        return settings
    try:
        _members(document, environ, settings)
    except RecursionError:
        settings.faults.append(config.invalid("", "nested too deeply"))
    most = (settings.limits or wire_start.ProcessLimits()).max_servers_per_scope
    if len(settings.servers) > most:
        text = f"{len(settings.servers)} servers are more than limits.maxServersPerScope ({most})"
        settings.faults.append(config.invalid("/mcpServers", text))
    return settings


def _members(document: desktop.Pairs, environ: Mapping[str, str], settings: Settings) -> None:
    seen: set[str] = set()
    for name, value in document:
        if name in seen:
            settings.faults.append(config.invalid(pointer(name), "this name comes twice"))
            continue
        seen.add(name)
        if name in _SECTIONS:
            setattr(settings, name, _section(name, value, environ, settings.faults))
        elif name == "mcpServers":
            _servers(value, environ, settings)
        else:
            settings.faults.append(config.invalid(pointer(name), desktop.HINTS.get(name, "unsupported key")))


def _servers(value: Any, environ: Mapping[str, str], settings: Settings) -> None:
    if value is None:
        return
    if not isinstance(value, desktop.Pairs):
        settings.faults.append(config.invalid("/mcpServers", "must be an object of servers by name"))
        return
    found = desktop.Found()
    desktop.read_servers(value, environ, None, found)
    settings.servers = [params for _, params in found.servers]
    settings.faults += found.faults


def _section(name: str, value: Any, environ: Mapping[str, str], faults: list[errors.InvalidParams]) -> Any:
    """Return a section as the struct of `initialize`; None where it is not there or faulty."""
    if value is None:
        return None
    model, struct = _SECTIONS[name]
    found: list[errors.InvalidParams] = []
    blank: set[str] = set()

    def fault(path: str, message: str) -> None:
        blank.add(path)
        found.append(config.invalid(path, message))

    body = desktop.expand(desktop.plain(value, pointer(name), found), pointer(name), environ, fault)
    try:
        checked = model.model_validate(body)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False, include_context=False):
            path = pointer(name, *one["loc"])
            if path not in blank:
                text = {"missing": "missing", "extra_forbidden": "unsupported key"}.get(one["type"], one["msg"])
                found.append(config.invalid(path, text))
    faults += found
    if found:
        return None
    return msgspec.convert(checked.model_dump(by_alias=True, exclude_none=True), struct)
