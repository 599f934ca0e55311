"""`mcp-sidecar completion bash|zsh|fish`: a script that the shell reads."""

from __future__ import annotations

import json
from importlib import resources
from typing import Final

SHELLS: Final = ("bash", "zsh", "fish")
COMMANDS: Final = {
    "serve": "speak the wire on stdin and stdout",
    "call": "send one request and print its result",
    "doctor": "say what works here, and how to mend what does not",
    "schema": "print the contract as OpenRPC",
    "completion": "print a script for the shell",
}
COMMON: Final = ("--help", "--version", "--verbose", "--log-level", "--config", "--vault")
CALL: Final = ("--server", "--url", "--command", "--header")


def schema() -> str:
    """Return the contract as OpenRPC, as it was generated from the models of this version."""
    return resources.files("sidecar").joinpath("openrpc.json").read_text(encoding="utf-8")


def methods() -> list[str]:
    """Return what `call` may send."""
    document = json.loads(schema())
    return sorted(method["name"] for method in document["methods"] if method.get("x-direction") != "sidecar")


def script(shell: str, levels: tuple[str, ...], vaults: tuple[str, ...]) -> str:
    """Return the script for a shell."""
    words = {
        "@COMMANDS@": " ".join(COMMANDS),
        "@COMMON@": " ".join(COMMON),
        "@CALL@": " ".join(CALL),
        "@SHELLS@": " ".join(SHELLS),
        "@METHODS@": " ".join(methods()),
        "@LEVELS@": " ".join(levels),
        "@VAULTS@": " ".join(vaults),
        "@DESCRIBED@": " ".join(f"'{name}:{text}'" for name, text in COMMANDS.items()),
        "@EACH@": "\n".join(
            f"complete -c mcp-sidecar -n __fish_use_subcommand -f -a {name} -d '{text}'"
            for name, text in COMMANDS.items()
        ),
    }
    text = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell]
    for name, value in words.items():
        text = text.replace(name, value)
    return text


_BASH: Final = r"""# mcp-sidecar completion for bash: source <(mcp-sidecar completion bash)
_mcp_sidecar() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' operands=0 choices='' i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --config | --vault | --log-level | --server | --url | --command | --header) i=$((i + 1)) ;;
            -*) ;;
            *) if [[ -z $command ]]; then command=${COMP_WORDS[i]}; else operands=$((operands + 1)); fi ;;
        esac
    done
    case $before in
        --config)
            local IFS=$'\n' # names may hold blanks
            COMPREPLY=($(compgen -f -- "$word"))
            return 0
            ;;
        --vault) choices='@VAULTS@' ;;
        --log-level) choices='@LEVELS@' ;;
        --server | --url | --command | --header) return 0 ;;
        *)
            case $command in
                '') choices='@COMMANDS@ @COMMON@' ;;
                call)
                    choices='@CALL@ @COMMON@'
                    if [[ $operands -eq 0 && $word != -* ]]; then choices='@METHODS@'; fi
                    ;;
                doctor) choices='--json @COMMON@' ;;
                completion) choices='@SHELLS@' ;;
                *) choices='@COMMON@' ;;
            esac
            ;;
    esac
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
}
complete -F _mcp_sidecar mcp-sidecar
"""

_ZSH: Final = r"""#compdef mcp-sidecar
# mcp-sidecar completion for zsh: source <(mcp-sidecar completion zsh)
_mcp_sidecar() {
    local -a common
    common=(
        '--help[say how it is used]' '--version[print versions]' '--verbose[log at level debug]'
        '--log-level[level of the log]:level:(@LEVELS@)' '--config[configuration file]:file:_files'
        '--vault[where credentials rest]:type:(@VAULTS@)'
    )
    local context state state_descr line
    typeset -A opt_args
    _arguments -C $common '1:command:->command' '*::argument:->argument'
    case $state in
        command) local -a commands; commands=(@DESCRIBED@); _describe command commands ;;
        argument)
            case $words[1] in
                call) _arguments $common '--server[name]:name:' '--url[URL]:url:' '--command[command line]:command:' \
                    '*--header[HTTP header]:header:' '1:method:(@METHODS@)' '2:params:' ;;
                doctor) _arguments $common '--json[as JSON]' ;;
                completion) _arguments '1:shell:(@SHELLS@)' ;;
                *) _arguments $common ;;
            esac ;;
    esac
}
compdef _mcp_sidecar mcp-sidecar
"""

_FISH: Final = r"""# mcp-sidecar completion for fish: mcp-sidecar completion fish | source
complete -c mcp-sidecar -e
@EACH@
complete -c mcp-sidecar -l help -d 'say how it is used'
complete -c mcp-sidecar -l version -d 'print versions'
complete -c mcp-sidecar -l verbose -d 'log at level debug'
complete -c mcp-sidecar -l log-level -x -a '@LEVELS@'
complete -c mcp-sidecar -l config -r -F -d 'configuration file'
complete -c mcp-sidecar -l vault -x -a '@VAULTS@'
complete -c mcp-sidecar -n '__fish_seen_subcommand_from call' -f -a '@METHODS@'
complete -c mcp-sidecar -n '__fish_seen_subcommand_from call' -l server -x
complete -c mcp-sidecar -n '__fish_seen_subcommand_from call' -l url -x
complete -c mcp-sidecar -n '__fish_seen_subcommand_from call' -l command -r
complete -c mcp-sidecar -n '__fish_seen_subcommand_from call' -l header -x
complete -c mcp-sidecar -n '__fish_seen_subcommand_from doctor' -l json -d 'as JSON'
complete -c mcp-sidecar -n '__fish_seen_subcommand_from completion' -f -a '@SHELLS@'
"""
