"""What was found about a file, each finding with its reason."""

from collections.abc import Iterator

from cascadezoo.checkpoints.identification import Examination
from cascadezoo.converters.identify import has_digits
from cascadezoo.converters.mistaken import about_part, about_state
from cascadezoo.converters.report import Evidence

_SHOWN = 5  # names of classes


def evidence(examined: Examination) -> Iterator[Evidence]:
    """The findings about a file, from its container to its entries."""
    checkpoint, names, layout = examined.checkpoint, examined.names, examined.layout
    yield Evidence(about="container", value=checkpoint.container, source="the first bytes of the file")
    if known := about_part(examined.path) or about_state(list(names.keys)):
        yield Evidence(about="no network", value=known, source="the name of the file or of its tensors")
    if checkpoint.wrapper:
        yield Evidence(about="wrapper", value=checkpoint.wrapper, source="the entry that holds the tensors")
    if names.prefix:
        but = f" except {', '.join(names.counters)}" if names.counters else ""
        yield Evidence(about="prefix", value=names.prefix, source=f"it is before all names of tensors{but}")
    for part in names.inside:
        yield Evidence(about="wrapped parts", value=part, source="it is within names of tensors")
    if layout is None:
        return
    yield Evidence(about="layout", value=layout.publisher, source=f"tensors lie under {layout.hallmark}")
    closest = list(examined.closest())
    for publisher, architecture, fit in closest:
        if fit.problems == 0:
            network = f"{architecture} of {publisher}"
            yield Evidence(about="network", value=network, source="all tensors have its names and shapes")
    count = examined.num_classes(*closest[0][:2])
    if count is not None:
        yield Evidence(about="classes", value=str(count), source="the lengths of the class layers, less the background")
    classes = examined.described.classes
    if classes:
        shown = ", ".join(classes[:_SHOWN]) + (", …" if len(classes) > _SHOWN else "")
        number = "" if len(classes) == count else f", {len(classes)} names, which are left aside"
        yield Evidence(about="class names", value=shown, source=f"the list in its metadata{number}")
    if examined.md5 and not any(has_digits(entry, examined.md5) for entry in examined.entries):
        yield Evidence(about="md5", value=examined.md5, source="it begins like no file that its publisher names by it")
    for hint in examined.hints:
        if hint.entries:
            pointed = ", ".join(entry.name for entry in hint.entries if entry in examined.candidates)
            yield Evidence(about="entry", value=pointed, source=f"{hint.origin}: {hint.says}")
