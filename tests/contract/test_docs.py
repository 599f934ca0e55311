"""What the documents say is executed, and compared with the models it speaks of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from sidecar import errors, wire
from tests.harness import PATIENCE, ROOT

from .exact import loads
from .play import Player
from .talk import Talk
from .test_transcripts import check_log
from .transcript import Matcher, parse

CONTRACT = ROOT / "proto" / "README.md"
README = ROOT / "README.md"
FENCE = re.compile(r"^```(?P<info>\S.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)
ROW = re.compile(
    r"^\| (?P<code>1\d\d\d) \| (?P<kind>\w+) \| (?P<retry>\w+) \| (?P<when>.*) \| (?P<extra>.*)\|$", re.MULTILINE
)
GO_CODE = re.compile(r"(1\d\d\d) ([A-Z]\w+)")
METHOD = re.compile(r"`([a-z]+/[A-Za-z_/]+|ping|initialize|shutdown)`")


class Block(NamedTuple):
    """A fenced block: what stands behind the fence, its text, and the line where it begins."""

    info: str
    text: str
    line: int


def blocks(path: Path, info: str) -> list[Block]:
    """Return the fenced blocks of a document whose first words are `info`."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(found["info"], found["text"], text[: found.start()].count("\n") + 1)
        for found in FENCE.finditer(text)
        if found["info"].startswith(info)
    ]


def section(title: str) -> str:
    """Return the text of one section of the contract."""
    text = CONTRACT.read_text(encoding="utf-8")
    start = text.index(f"\n## {title}")
    return text[start : text.find("\n## ", start + 1)]


@pytest.mark.parametrize("block", blocks(CONTRACT, "jsonl transcript"), ids=lambda block: f"line {block.line}")
def test_examples_of_the_contract_are_what_the_process_does(block: Block) -> None:
    """Each example is played as a transcript."""
    with Talk() as sidecar:
        Player(parse(block.text), sidecar).play()
    check_log(sidecar)


def test_contract_tells_every_method_of_the_models_and_no_other() -> None:
    """Sections 4 and 5 name exactly the methods, reverse requests and notifications of the models."""
    told = set(METHOD.findall(section("4. ") + section("5. ")))
    assert told == {method.name for method in (*wire.METHODS, *wire.REVERSE, *wire.NOTIFICATIONS)}


def test_contract_tells_every_member_of_what_it_gives_a_shape() -> None:
    """The keys of the large shapes stand in the text as the models have them."""
    text = section("2. ") + section("4. ")
    for model in (
        wire.HostCapabilities,
        wire.VaultConfig,
        wire.Egress,
        wire.ProcessLimits,
        wire.ConnectParams,
        wire.UpdateParams,
        wire.ImportParams,
        wire.TestResult,
        wire.ServerLimits,
        wire.ToolPolicy,
        wire.OAuth,
        wire.ServerInfo,
        wire.AuthInfo,
        wire.Facts,
        wire.Authorization,
        wire.AuthCompleteParams,
        wire.AuthImportParams,
        wire.CredentialStatus,
        wire.Health,
    ):
        for name, field in model.model_fields.items():
            assert re.search(rf"\b{field.alias or name}\b", text), f"{model.__name__}.{name}"


def test_reserved_names_are_refused_as_the_contract_says() -> None:
    """With -32601, and nothing else happens."""
    with Talk() as sidecar:
        reserved = sorted(set(METHOD.findall(section("8. "))))
        assert reserved
        for method in reserved:
            sidecar.call(method, {"server": "a"}).is_error(errors.METHOD_NOT_FOUND)
        assert sidecar.call("servers/list").result == {"servers": []}


def test_contract_tells_every_code_with_its_kind_and_its_retry() -> None:
    """The table and the list of Go-only codes are those of the error classes."""
    text = section("6. ")
    table = {int(row["code"]): (row["kind"], row["retry"]) for row in ROW.finditer(text)}
    go_only = {int(code) for code, _ in GO_CODE.findall(text[text.index("Codes made by the Go client") :])}
    assert go_only == errors.GO_ONLY
    assert table == {error.code: (error.kind, error.retry) for error in errors.ALL_ERRORS if error.code not in go_only}


def test_contract_tells_the_extra_fields_of_every_code() -> None:
    """Fields of `data` stand in the table as the error classes have them."""
    classes = {error.code: error for error in errors.ALL_ERRORS}
    for row in ROW.finditer(section("6. ")):
        told = set(re.findall(r"`([a-zA-Z]+)\??`", row["extra"]))
        assert set(classes[int(row["code"])].fields) <= told


@pytest.mark.parametrize("block", blocks(README, "sh run"), ids=lambda block: f"line {block.line}")
def test_commands_of_the_readme_print_what_it_says(block: Block) -> None:
    """The block behind a command is its stdout: a JSON value, or one a line; `…` stands for whatever comes."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=2 * PATIENCE,
        check=True,
    )
    following = [found for found in blocks(README, "json") if found.line > block.line]
    expected = following[0]
    text = re.sub(r'"…": ?"…"', '"...":"$any"', expected.text).replace('"…"', '"$text"')
    whole = expected.info == "json output"
    patterns = [loads(line) for line in ([text] if whole else text.splitlines())]
    got = [loads(line) for line in ([done.stdout] if whole else done.stdout.splitlines())]
    assert len(got) == len(patterns)
    for pattern, value in zip(patterns, got, strict=True):
        Matcher().match(pattern, value)


@pytest.mark.needs("go")
@pytest.mark.parametrize("how", ["replace", "workspace"])
def test_go_program_of_the_readme_compiles_and_runs(how: str, tmp_path: Path) -> None:
    """A module outside the repository that depends on the client in one of the ways of the text."""
    (block,) = blocks(README, "go program")
    text = README.read_text(encoding="utf-8").replace("../mcp-sidecar/go-client", str(ROOT / "go-client"))
    (tmp_path / "main.go").write_text(block.text, encoding="utf-8")
    lines = ["module example.com/program", "go 1.24"]
    environment = {
        **os.environ,
        "GOPROXY": "off",
        "MCP_SIDECAR_COMMAND": f"{sys.executable} -m sidecar",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    if how == "replace":
        lines += re.findall(r"^    ((?:require|replace) .*)$", text, re.MULTILINE)
    (tmp_path / "go.mod").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if how == "workspace":
        work = re.search(r"`(go work init [^`]*)`", text)
        assert work is not None
        subprocess.run(work[1].split(), cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=True)
    build = ["go", "build", "-o", "program", "."]
    subprocess.run(build, cwd=tmp_path, env=environment, capture_output=True, timeout=120, check=True)
    done = subprocess.run(
        [str(tmp_path / "program")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=2 * PATIENCE,
        check=True,
    )
    expected = next(found for found in blocks(README, "text output") if found.line > block.line)
    assert re.fullmatch(expected.text.replace("…", ".*"), done.stdout.decode())


@pytest.mark.needs("go")
def test_functions_of_the_readme_for_each_kind_of_host_compile(tmp_path: Path) -> None:
    """They stand in one package, outside the repository; vet reads them too."""
    text = "\n".join(block.text for block in blocks(README, "go host"))
    assert text.count("func ") > 4
    imports = ["context", "errors", "fmt"]
    quoted = "\n".join(f'"{name}"' for name in imports)
    package = re.search(r'sidecar "([^"]+)"', README.read_text(encoding="utf-8"))
    assert package is not None
    (tmp_path / "hosts.go").write_text(
        f'package hosts\n\nimport (\n{quoted}\n\nsidecar "{package[1]}"\n)\n\n{text}', encoding="utf-8"
    )
    lines = ["module example.com/hosts", "go 1.24", f"require {package[1]} v0.0.0"]
    lines.append(f"replace {package[1]} => {ROOT / 'go-client'}")
    (tmp_path / "go.mod").write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {**os.environ, "GOPROXY": "off", "GOFLAGS": "-mod=mod"}
    vet = ["go", "vet", "."]
    done = subprocess.run(vet, cwd=tmp_path, env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_names_of_the_go_package_in_the_readme_exist() -> None:
    """Every `sidecar.Name` of the text is declared by the package."""
    declared = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "go-client").glob("*.go"))
    for name in sorted(set(re.findall(r"\bsidecar\.([A-Z]\w*)", README.read_text(encoding="utf-8")))):
        assert re.search(rf"^(?:type |func |var |const |\t){name}\b", declared, re.MULTILINE), name


def test_links_of_the_documents_lead_somewhere() -> None:
    """Relative links name files of the repository."""
    documents = [README, CONTRACT, ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("proto/*/README.md")]
    for document in documents:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"
