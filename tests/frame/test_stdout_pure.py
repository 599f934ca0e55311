"""Whatever prints inside the process, stdout holds only frames and no byte of stdin is lost."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Start
from tests.programs import raw

NOISE = '''
import sys


class Noise:
    """Makes noise when the engine is imported, which is after the sidecar took its descriptors."""

    done = False

    def find_spec(self, name, path=None, target=None):
        if name == "fastmcp" and not Noise.done:
            Noise.done = True
            import ctypes, os, subprocess, warnings, webbrowser
            print("NOISE print")
            sys.stdout.flush()
            os.write(1, b"NOISE os.write\\n")
            libc = ctypes.CDLL(None)
            libc.puts(b"NOISE puts")
            libc.fflush(None)
            sys.__stdout__.write("NOISE __stdout__\\n")
            sys.__stdout__.flush()
            warnings.warn("NOISE warning")
            subprocess.run(["sh", "-c", "echo NOISE child; cat >/dev/null"], timeout=10)
            webbrowser.get(os.environ["BROWSER"]).open("http://127.0.0.1:1/")
            sys.stderr.write("NOISE read %r\\n" % os.read(0, 100))
            sys.stderr.flush()
        return None


sys.meta_path.insert(0, Noise())
'''


def test_stdout_has_only_frames_and_no_byte_of_stdin_is_eaten(start: Start, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOISE)
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\necho NOISE browser\ncat >/dev/null\n")
    browser.chmod(0o755)
    sidecar = start(env={"PYTHONPATH": str(tmp_path), "BROWSER": str(browser)})
    keys = [sidecar.request("servers/list", {"scope": {"user": str(n)}}) for n in range(200)]
    for key in keys:
        assert sidecar.answer(key).result == {"servers": []}
    sidecar.connect("s", raw())
    assert sidecar.tool("s", "echo").result
    assert not any(b"NOISE" in line for line in sidecar.lines)
    text = sidecar.wait(lambda: sidecar.stderr if b"NOISE read" in sidecar.stderr else None, "noise").decode()
    for what in ("print", "os.write", "puts", "__stdout__", "child", "browser", "read b''"):
        assert f"NOISE {what}" in text
