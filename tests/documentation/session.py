"""A page as one session: its blocks in their order, in one folder; those of Python share their names."""

import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from documentation.blocks import ROOT, Block, blocks_of

_READY = 60  # seconds that a command that runs on has to say that it serves


def run_page(page: str) -> None:
    """Run what can be run here, in the current folder; ends this process where a block fails."""
    names: dict[str, Any] = {"__name__": "__main__"}
    running: list[subprocess.Popen[bytes]] = []
    port = str(_free_port())
    try:
        for block in blocks_of(page):
            if not block.is_possible_here:
                continue
            print(f"--- {block.where}", flush=True)
            code = re.sub(r"\b8000\b", port, block.code).replace("path/of/a/clone", str(ROOT))
            if block.language == "python":
                _execute(block, code, names)
            elif block.runs_on:
                running.append(_started(block, code))
            elif failed := subprocess.run(["bash", "-euo", "pipefail", "-c", code]).returncode:
                sys.exit(f"{block.where}: exit code {failed}")
    finally:
        for process in running:
            process.terminate()
            process.wait()


def _execute(block: Block, code: str, names: dict[str, Any]) -> None:
    """A block of Python; a traceback names the line of the page."""
    exec(compile(block.before, f"before {block.where}", "exec"), names)
    exec(compile("\n" * (block.line - 1) + code, block.page, "exec"), names)


def _started(block: Block, code: str) -> "subprocess.Popen[bytes]":
    """A command that runs on, once it says that it serves."""
    log = Path("log")
    with log.open("wb") as file:
        process = subprocess.Popen(["bash", "-c", f"exec {code}"], stderr=file)
    end = time.monotonic() + _READY
    while b"serving " not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            sys.exit(f"{block.where}: it does not serve: {log.read_text()}")
        time.sleep(0.05)
    return process


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
