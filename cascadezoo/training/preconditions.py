"""What may be asked of a training run, as far as it is known before the data are read, and without torch."""

from importlib.util import find_spec
from pathlib import Path

from cascadezoo import registry
from cascadezoo.errors import MissingResource, OutputExists
from cascadezoo.training.config import TrainingConfig, recipe_of


def require_startable(config: TrainingConfig, *, resume: bool, extend: bool) -> None:
    """Check the entry, its schedule and the run's folder and, to resume, that the options are those it began with.

    Raises UsageError (UnknownName, OutputExists), UnsupportedEntry and MissingResource.
    """
    if config.entry is not None:
        entry = registry.info(config.entry)
        registry.spec_of(entry)
        recipe_of(entry, config.schedule)
    config.with_augment(None)
    require_free(config.run_dir, resume=resume)
    require_writers(config)
    if resume:
        config.require_continues(TrainingConfig.read(config.run_dir), extend=extend)


def require_free(folder: Path, *, resume: bool) -> None:
    """Raise OutputExists where a run's folder is a file or, without ``resume``, holds anything."""
    if folder.exists() and not folder.is_dir():
        raise OutputExists(f"{folder} is a file: choose another folder for the run")
    if not resume and folder.exists() and any(folder.iterdir()):
        raise OutputExists(
            f"{folder} is not empty: pass --resume to go on with the run in it, or choose another folder"
        )


def require_writers(config: TrainingConfig) -> None:
    """Raise MissingResource where a package is not installed that curves are to be written with."""
    for package, is_wanted in (("tensorboard", config.tensorboard), ("wandb", config.wandb is not None)):
        if is_wanted and find_spec(package) is None:
            raise MissingResource(f"--{package} needs a package that is not installed: pip install {package}")
