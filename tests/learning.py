"""A small network that learns, and the records of its runs."""

import json

import torch

from cascadezoo.loading import build
from cascadezoo.spec.recipe import Augmentation, Curve, Exempt, Method, Recipe, Schedule, Solver

from tiny_zoo import narrow


def adamw(lr: float, epochs: float, curve: Curve = Curve.COSINE, **changes) -> Recipe:
    return Recipe(
        solver=Solver(method=Method.ADAMW, lr=lr, batch=1, weight_decay=0, exempt=Exempt.VECTORS),
        schedule=Schedule(epochs=epochs, curve=curve, warmup_steps=10 if curve is Curve.COSINE else 0),
        augmentation=Augmentation(flip=0),
        **{"clip": 5.0, **changes},
    )


def learner(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build(narrow(num_classes=3)).requires_grad_(True)


def options(drawn, folder, **changes) -> dict:
    return {
        "train_json": drawn.annotations,
        "train_images": drawn.images,
        "run_dir": folder,
        "workers": 0,
        "device": "cpu",
        **changes,
    }


def log(folder, kind: str) -> list[dict]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]
