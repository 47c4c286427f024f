"""Our own layout: canonical names and shapes, in whatever container a state dict was saved."""

from collections.abc import Collection

from cascadezoo.converters.converter import Description, Layout, are_unread, class_names
from cascadezoo.converters.keymap import KeyMap

_KEY_MAP = KeyMap(rows=(("{anything}", "{anything}"),))
_HEADS = ("rpn.objectness.", "box_heads.0.")


def _refusal(keys: Collection[str], meta: object) -> str | None:
    if all(any(key.startswith(head) for key in keys) for head in _HEADS):
        return None
    return f"it has no tensors under {' and '.join(_HEADS)}, where cascadezoo's own files have them"


def _describe(meta: object) -> Description:
    if not isinstance(meta, dict):
        return Description()
    given = meta.get("CLASSES")
    return Description(classes=class_names(given), unread_classes=are_unread(given))


LAYOUT = Layout(
    publisher="cascadezoo",
    hallmark=" and ".join(_HEADS),
    key_map=lambda architecture: _KEY_MAP,
    refusal=_refusal,
    describe=_describe,
)
