"""The command line, and Ray's processes, with the tiny detector in place of the published ones: ``python
tests/fleet/fleet_zoo.py verify NAME … --engine ray``.

``HARM`` is JSON data, an entry's name to [what, times, folder]: its process does that to itself so many times while
the model is loaded ("abort", "kill"), or sleeps for ever ("sleep").  The folder holds a file for every time.
"""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from small_coco import tiny_load


def load(name: str, **options: object):
    """In place of ``cascadezoo.load``."""
    what, times, folder = json.loads(os.environ.get("HARM", "{}")).get(name, ("nothing", 0, "."))
    done = len(list(Path(folder).glob(f"{name}.*"))) if times else 0
    if done < times:
        (Path(folder) / f"{name}.{done}").touch()
        if what == "abort":
            os.abort()
        elif what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            time.sleep(600)
    if log := os.environ.get("LOADED"):
        with open(log, "a") as file:
            file.write(f"{name}\n")
    return tiny_load(name)


def double() -> None:
    """What each of Ray's processes does first."""
    import torch

    import cascadezoo

    torch.set_num_threads(1)
    cascadezoo.load = load


def main() -> None:
    """The command line; a cluster of its own has two CPUs."""
    import ray

    own = {} if "--address" in sys.argv else {"num_cpus": 2}
    ray.init = partial(ray.init, runtime_env={"worker_process_setup_hook": "fleet_zoo.double"}, **own)
    double()
    from cascadezoo.cli import main as cli

    cli(sys.argv[1:])


if __name__ == "__main__":
    main()
