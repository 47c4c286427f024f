"""Programs that start in milliseconds: a process that has imported everything forks for each of them.

``python warm.py SOCKET`` is that process.  ``call`` runs a program there, in the caller's folder and environment and on
its streams, and ``SHIM`` is a script that does so for a shell.
"""

import atexit
import json
import os
import runpy
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

SOCKET = "DOCUMENTATION_SOCKET"  # the environment's name for the socket's path
SHIM = f"""#!{sys.executable} -IS
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from warm import call
sys.exit(call([*{{words!r}}, *sys.argv[1:]]))
"""


def call(words: Sequence[str]) -> int:
    """Run ``words``; the exit code.  SIGTERM goes on to what runs."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[SOCKET])
        asked = {"words": list(words), "folder": str(Path.cwd()), "environ": dict(os.environ)}
        socket.send_fds(connection, [b"."], [0, 1, 2])
        connection.sendall(json.dumps(asked).encode() + b"\n")
        answers = connection.makefile()
        process = int(answers.readline())
        signal.signal(signal.SIGTERM, lambda *_: os.kill(process, signal.SIGTERM))
        return int(answers.readline() or 1)


def serve(path: str) -> None:
    """Run what is asked for until the process is ended."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        asked = json.loads(connection.makefile().readline())
        if process := os.fork():
            connection.sendall(f"{process}\n".encode())
            _, status = os.waitpid(process, 0)
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environ"])
        _leave(_code_of(asked["words"]))


def _code_of(words: list[str]) -> int:
    """Run a program to its end; its exit code."""
    try:
        _run(words)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _leave(code: int) -> NoReturn:
    """End this process without taking all modules apart, which would take longer than most programs here."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


def _run(words: list[str]) -> None:
    """What the program's name stands for, in this process."""
    program, *arguments = words
    if program == "cascadezoo":
        from cascadezoo.cli import main

        main(arguments)
    elif program == "page":
        from documentation.session import run_page

        run_page(arguments[0])
    elif program == "furnish":
        from documentation.stand_ins import furnish

        furnish(Path.cwd())
    elif arguments[0] == "-c":
        sys.argv = arguments
        exec(arguments[1], {"__name__": "__main__"})
    elif arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    import cv2

    import cascadezoo.benchmarks.verify.verify
    import cascadezoo.cli.predict
    import cascadezoo.cli.verify
    import cascadezoo.training.loop  # noqa: F401

    from documentation.stand_ins import shrink

    cv2.setNumThreads(0)  # its threads would be missing in a forked process, which waits for them
    shrink()
    serve(sys.argv[1])
