"""``cascadezoo train --check``: all data looked at, one step tried, nothing trained."""

from cascadezoo.cli.findings import MOST, print_faults, print_table, require_accepted
from cascadezoo.cli.terminal import echo
from cascadezoo.coco.checking import check
from cascadezoo.coco.faults import Faults
from cascadezoo.environment import is_first_process
from cascadezoo.errors import HandledFaults
from cascadezoo.training.config import TrainingConfig


def check_run(config: TrainingConfig) -> None:
    """Print every fault of the run's data, then what the run would be.

    Raises BadAnnotations where the data are refused, HandledFaults where training goes on from all their faults, and
    what ``check_training`` raises.
    """
    found = _check_data(config) if is_first_process() else []
    from cascadezoo.training.rehearsal import check_training  # and torch, now that the data are sound

    for line in check_training(config):
        if is_first_process():
            echo(line)
    if total := sum(faults.counts.total() for faults in found):
        raise HandledFaults(f"the data have {total} fault{'s' * (total > 1)}; training goes on from all of them")


def _check_data(config: TrainingConfig) -> list[Faults]:
    files = [(config.train_json, config.train_images)]
    if config.val_json is not None:
        files.append((config.val_json, config.val_images or config.train_images))
    found = []
    for annotations, images in files:
        contents, faults = check(annotations, images, MOST, decode=True)
        print_table(annotations, contents)
        print_faults(annotations, faults)
        found.append(faults)
    for (annotations, _), faults in zip(files, found, strict=True):
        require_accepted(annotations, faults)
    return found
