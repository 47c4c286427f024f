"""The generated model card: its front matter read by a YAML library, its text by eye and here by phrase."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hub.fake_hub import FakeHub
from hub.publishing import SOURCE_SHA256, canonical_file, shrink, use_hub
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from PIL import Image

import cascadezoo
from cascadezoo import registry, shapes
from cascadezoo.benchmarks.reports import schema as report
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import FileError, LicenseUnstated, MissingResource, UnreadableImage, UsageError
from cascadezoo.hub.cache import embedded_file
from cascadezoo.images import read_image
from cascadezoo.publishing.figures import eval_results, published
from cascadezoo.publishing.licensing import license_of
from cascadezoo.publishing.picture import picture_of
from cascadezoo.publishing.publish import publish

REPO = "org/model"
BOX, MASK = "cascade_r50_fpn_1x.detectron", "mask_r50_fpn_1x.detectron"
AUGMENTED, LATER = "mask_x152_32x8d_in5k_fpn_s1x.detectron", "cascade_mask_r101_fpn_1x.detectron"
SHAPES = "cascade_mask_r18_fpn_shapes.cascadezoo"
TRAINED = {"categories": '{"ids":[1,2],"names":["a","b"]}', "source_sha256": None, "trained_by": "me"}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch, BOX, MASK, AUGMENTED, LATER)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub() as running:
        use_hub(monkeypatch, running, tmp_path / "hf")
        yield running


def card(folder: Path, name: str, license: str | None = None, changes: dict[str, Any] | None = None, **options) -> str:
    weights = canonical_file(folder, name, **(changes or {}))
    return publish(name, REPO, weights=weights, license=license, dry_run=True, **options).card


def front(text: str) -> dict[str, Any]:
    start, matter, _ = text.split("---\n", 2)
    assert start == ""
    found: dict[str, Any] = yaml.safe_load(matter)
    return found


def figures(matter: dict[str, Any]) -> dict[tuple[str, str], float]:
    """(task, metric) -> value, of the one model of the index."""
    [model] = matter["model-index"]
    return {
        (result["task"]["type"], metric["name"]): metric["value"]
        for result in model["results"]
        for metric in result["metrics"]
    }


def sources(matter: dict[str, Any]) -> set[tuple[str, str]]:
    return {(r["source"]["name"], r["source"]["url"]) for r in matter["model-index"][0]["results"]}


def test_front_matter_of_a_box_model_whose_licence_was_chosen(tmp_path: Path) -> None:
    matter = front(card(tmp_path, BOX, "Apache-2.0"))
    index = matter.pop("model-index")
    assert matter == {
        "license": "apache-2.0",
        "library_name": "cascadezoo",
        "pipeline_tag": "object-detection",
        "tags": ["object-detection", "cascade-rcnn"],
        "datasets": ["detection-datasets/coco"],
    }
    assert index == [
        {
            "name": BOX,
            "results": [
                {
                    "task": {"type": "object-detection"},
                    "dataset": {"name": "COCO val2017", "type": "detection-datasets/coco", "split": "validation"},
                    "metrics": [
                        {"type": "precision", "name": "box AP@[.50:.95]", "value": 0.409},
                        {"type": "precision", "name": "box AP@.50", "value": 0.59},
                        {"type": "precision", "name": "box AP@.75", "value": 0.446},
                    ],
                    "source": {
                        "name": 'published: the publisher\'s table "End-to-End Faster & Mask R-CNN Baselines"',
                        "url": "https://github.com/zhaoweicai/Detectron-Cascade-RCNN",
                    },
                }
            ],
        }
    ]


def test_front_matter_of_a_mask_model_with_a_stated_licence(tmp_path: Path) -> None:
    matter = front(card(tmp_path, MASK))
    assert matter["license"] == "cc-by-sa-3.0"
    assert matter["pipeline_tag"] == "image-segmentation"
    assert matter["tags"] == ["object-detection", "instance-segmentation", "mask-rcnn"]
    found = figures(matter)
    assert found["object-detection", "box AP@[.50:.95]"] == 0.377
    assert found["image-segmentation", "mask AP@[.50:.95]"] == 0.339


def test_evaluations_with_test_time_augmentation_are_told_apart(tmp_path: Path) -> None:
    text = card(tmp_path, AUGMENTED)
    assert figures(front(text)) == {
        ("object-detection", "box AP@[.50:.95], test-time augmentation"): 0.481,
        ("object-detection", "box AP@[.50:.95]"): 0.452,
        ("image-segmentation", "mask AP@[.50:.95], test-time augmentation"): 0.415,
        ("image-segmentation", "mask AP@[.50:.95]"): 0.397,
    }
    assert "| yes | 48.1 | 41.5 |\n| no | 45.2 | 39.7 |" in text


def test_figures_of_a_later_edition_are_said_to_be(tmp_path: Path) -> None:
    matter = front(card(tmp_path, LATER, "unknown"))
    assert {name for name, _ in sources(matter)} == {"published: a later commit of the same README"}
    assert figures(matter)["object-detection", "box AP@[.50:.95]"] == 0.433


def test_text_carries_attribution_share_alike_and_provenance(tmp_path: Path) -> None:
    text = card(tmp_path, MASK)
    for phrase in (
        f'cascadezoo.load("hf-hub:{REPO}")',
        "**as published**; not measured on these files",
        "Weights: [CC-BY-SA-3.0](https://creativecommons.org/licenses/by-sa/3.0/), as their publisher states.",
        "Attribution: Facebook AI Research, Detectron Model Zoo.",
        "Changes: tensors were renamed",
        "Share-alike: pass these weights on, changed or not, only under CC-BY-SA-3.0",
        "The publisher's code, of which nothing is here, is under Apache-2.0.",
        f"| its sha256 | {SOURCE_SHA256} |",
        "| is that the published hash? | no hash was published for it, or it has another |",
        "Girshick, Radosavovic, Gkioxari, Dollár and He, Detectron",
    ):
        assert phrase in text
    assert "cascadezoo 0.1.0" in text


def test_what_the_pages_say_of_licences_stands_beside_a_chosen_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cascade_mask_internimage_l_fpn_1x.internimage"
    shrink(monkeypatch, name)
    said = "- What the publisher's pages say: the Hugging Face repository OpenGVLab/InternImage, which holds the files"
    text = card(tmp_path, name, "MIT")
    assert said in text
    assert "**the weights' publisher states no licence for them**" in text
    assert said not in card(tmp_path, name, "MIT", TRAINED)  # theirs is another's to say
    assert "pages say" not in card(tmp_path, BOX, "MIT")


def test_an_unstated_licence_is_said_to_be_chosen(tmp_path: Path) -> None:
    text = card(tmp_path, BOX, "Apache-2.0")
    assert "chosen by the owner of this repository: **the weights' publisher states no licence" in text
    assert "Share-alike" not in text


def test_our_own_entry_has_no_other_publisher() -> None:
    text = publish(SHAPES, REPO, dry_run=True).card
    assert front(text)["license"] == "apache-2.0"
    assert "The weights were trained with cascadezoo." in text
    assert "publisher's figures" not in text
    assert "publisher's code" not in text


def test_the_weights_in_the_package_have_the_manifests_figures_and_others_none(tmp_path: Path) -> None:
    text = publish(SHAPES, REPO, dry_run=True).card
    matter = front(text)
    [result, _] = matter["model-index"][0]["results"]
    assert result["dataset"] == {"name": "shapes", "type": "shapes", "split": "validation"}
    assert "source" not in result  # it has no page
    assert figures(matter)["object-detection", "box AP@[.50:.95]"] == 0.851
    assert "percent on shapes, **measured** on these files.\nSource: cascadezoo's own evaluation." in text
    assert "as published" not in text
    model = cascadezoo.load(SHAPES, pretrained=True)
    next(model.parameters()).data += 1
    assert "model-index" not in front(publish(model, REPO, dry_run=True).card)


def test_the_hubs_own_reader_finds_the_same(tmp_path: Path) -> None:
    text = card(tmp_path, MASK)
    read = ModelCard(text).data
    expected = eval_results(published(registry.info(MASK)))
    assert read.eval_results == expected
    assert model_index_to_eval_results(front(text)["model-index"]) == (MASK, expected)
    assert not any(each.verified for each in read.eval_results)  # the Hub's own word, for its own evaluations
    assert (read.library_name, read.pipeline_tag, read.datasets) == (
        "cascadezoo", "image-segmentation", ["detection-datasets/coco"],
    )  # fmt: skip


def test_weights_trained_from_a_repository_name_it(tmp_path: Path) -> None:
    started = "hf-hub:org/base@0123abc, which started from something else"
    trained = {**TRAINED, "started_from": started}
    assert front(card(tmp_path, MASK, changes=trained))["base_model"] == "org/base"
    for words in ("mask_r50_fpn_1x.detectron as published", "hf-hub:no repository@1", "see hf-hub:org/base@1"):
        assert "base_model" not in front(card(tmp_path, MASK, changes={**TRAINED, "started_from": words}))
    assert "base_model" not in front(card(tmp_path, MASK, changes={"started_from": started}))  # the publisher's still


def test_a_picture_of_what_the_weights_find(tmp_path: Path, hub: FakeHub) -> None:
    shapes.generate("val", tmp_path, 2)
    image = tmp_path / "val/000002.png"
    done = publish(SHAPES, REPO, picture=image)
    repo = hub.repos[REPO]
    files = repo.commits[repo.branches["main"]]
    shown = read_image(files["picture.jpg"])
    own = read_image(image)
    assert shown.shape == own.shape
    found = cascadezoo.load(SHAPES, pretrained=True).predict(own)
    drawn = np.asarray(found[found.scores >= 0.5].plot(own))
    assert len(files["picture.jpg"]) == done.files["picture.jpg"]
    difference = [np.abs(shown.astype(float) - each).mean() for each in (drawn, own)]
    assert difference[0] < 0.5 * difference[1]
    assert "![What these weights find on an image](picture.jpg)" in done.card
    with pytest.raises(UnreadableImage):
        publish(SHAPES, REPO, picture=Path(__file__), dry_run=True)


def test_a_large_picture_is_made_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1000)).save(tmp_path / "large.png")
    made = picture_of(registry.info(SHAPES), embedded_file(registry.info(SHAPES)), tmp_path / "large.png")
    assert read_image(made).shape == (640, 1280, 3)


def test_files_that_may_be_several_entries_say_so(tmp_path: Path) -> None:
    text = card(tmp_path, MASK, changes={"entries": f"{MASK},mask_r50_fpn_2x.detectron"})
    assert "| may also be, by its tensors | mask_r50_fpn_2x.detectron |" in text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("unknown", {"license": "unknown"}),
        ("other", {"license": "other"}),
        ("openrail", {"license": "openrail"}),
        ("LicenseRef-mine", {"license": "other", "license_name": "licenseref-mine", "license_link": None}),
        (
            "EUPL-1.2",
            {"license": "other", "license_name": "eupl-1.2", "license_link": "https://spdx.org/licenses/EUPL-1.2.html"},
        ),
    ],
)
def test_licences_as_the_hub_names_them(given: str, expected: dict[str, str]) -> None:
    assert license_of("unstated", given, BOX).front_matter() == expected


@pytest.mark.parametrize(
    ("given", "page"),
    [("mit", "https://spdx.org/licenses/MIT.html"), ("cc0-1.0", "https://spdx.org/licenses/CC0-1.0.html"),
     ("CC-BY-NC-SA-4.0", "https://creativecommons.org/licenses/by-nc-sa/4.0/"),
     ("other", None), ("cc", None), ("cc-by", None), ("gemma", None), ("LicenseRef-mine", None)],
)  # fmt: skip
def test_a_licence_links_to_its_page_only_where_it_has_one(given: str, page: str | None) -> None:
    assert license_of("unstated", given, BOX).url == page


@pytest.mark.parametrize("given", ["", "my own", "MIT\nlicense: apache-2.0", "http://x"])
def test_what_is_no_licence_identifier(given: str) -> None:
    with pytest.raises(UsageError, match="no licence identifier"):
        license_of("unstated", given, BOX)


def test_every_entry_has_a_page_to_point_to() -> None:
    for entry in registry.entries():
        if entry.availability != "embedded":
            assert entry.page_url.startswith("https://github.com/")


# reports


def measured(folder: Path, name: str, digest: str | None, *, verdict: Verdict = Verdict.FAIL, **changes: Any) -> Path:
    """A report of `cascadezoo verify`, by its own writer."""
    evaluation = {
        "tta": False,
        "basis": "table",
        "verdict": verdict,
        "reason": "",
        "tolerance": "0.1",
        "figures": {"bbox": {"AP": 37.4321, "AP50": 59.0, "APs": 12.0}, "segm": {"AP": 33.9, "AP50": None}},
        "dataset": "COCO val2017",
        **changes,
    }
    machine = {
        **dict.fromkeys(("gpu", "driver", "threads", "cuda")),
        **dict.fromkeys(("device", "cpu", "system", "python", "decoder", "evaluator"), "x"),
        "cores": 2,
        "packages": {},
    }
    made = report.Report.model_validate(
        {
            "settings": {},
            **dict.fromkeys(("version", "manifest_sha256", "code_sha256"), "x"),
            **dict.fromkeys(("commit", "modified")),
            "machines": [machine],
            "entries": [{"name": name, "verdict": verdict, "weights_digest": digest, "accuracy": [evaluation]}],
            "timing": {"date": "2026-01-01", "seconds": 1.0},
        }
    )
    path = folder / "verified.json"
    path.write_text(report.text_of(made))
    return path


def digest_of(folder: Path, name: str, **changes: Any) -> str:
    return read_canonical(canonical_file(folder, name, **changes))[1]["content_digest"]


def test_a_report_replaces_the_published_figures_and_is_uploaded(tmp_path: Path) -> None:
    path = measured(tmp_path, MASK, digest_of(tmp_path, MASK))
    done = publish(MASK, REPO, weights=tmp_path / f"{MASK}.safetensors", report=path, dry_run=True)
    matter = front(done.card)
    assert figures(matter) == {
        ("object-detection", "box AP@[.50:.95]"): 0.3743,
        ("object-detection", "box AP@.50"): 0.59,
        ("image-segmentation", "mask AP@[.50:.95]"): 0.339,
    }
    url = f"https://hub.example/{REPO}/blob/main/report.json"
    assert sources(matter) == {("measured: report of cascadezoo verify", url)}
    assert "**measured** on these files" in done.card
    assert done.figures == "measured"
    assert done.files["report.json"] == path.stat().st_size


@pytest.mark.parametrize(("value", "shown"), [(45.125, "45.13"), (45.135, "45.14"), (44.95, "44.95"), (0.05, "0.05")])
def test_a_measured_figure_shows_the_digits_of_its_report(tmp_path: Path, value: float, shown: str) -> None:
    found = {"bbox": {"AP": value, "AP50": None}, "segm": {"AP": 33.9}}
    path = measured(tmp_path, MASK, digest_of(tmp_path, MASK), figures=found)
    text = card(tmp_path, MASK, report=path)
    assert f"| test-time augmentation | box AP | mask AP |\n|---|---|---|\n| no | {shown} | 33.90 |" in text
    assert figures(front(text))["object-detection", "box AP@[.50:.95]"] == float(Decimal(shown) / 100)


def test_a_trained_model_on_its_own_data(tmp_path: Path) -> None:
    path = measured(tmp_path, MASK, digest_of(tmp_path, MASK, **TRAINED), dataset="shapes")
    text = card(tmp_path, MASK, changes=TRAINED, report=path)
    matter = front(text)
    assert matter["model-index"][0]["results"][0]["dataset"]["type"] == "shapes"
    assert "datasets" not in matter
    assert "| trained by | me |" in text
    assert "the publisher's figures are not theirs" in text
    assert "the weights were trained with cascadezoo" in text
    # what they were trained from is not said: the publisher's terms hold
    assert matter["license"] == "cc-by-sa-3.0"
    assert "Attribution: Facebook AI Research" in text


def test_terms_of_trained_weights_follow_what_they_started_from(tmp_path: Path) -> None:
    scratch = {**TRAINED, "started_from": "random"}
    with pytest.raises(LicenseUnstated, match="are your own"):
        card(tmp_path, MASK, changes=scratch)
    text = card(tmp_path, MASK, "MIT", changes=scratch)
    assert front(text)["license"] == "mit"
    assert "Attribution" not in text
    assert "publisher states no licence" not in text

    tuned = {**TRAINED, "started_from": "x as published", "weights_license": "CC-BY-4.0", "attribution": "Somebody"}
    text = card(tmp_path, MASK, changes=tuned)
    assert front(text)["license"] == "cc-by-4.0"
    assert "- Attribution: Somebody." in text


def test_reports_that_do_not_speak_of_these_weights(tmp_path: Path) -> None:
    digest = digest_of(tmp_path, MASK)
    with pytest.raises(UsageError, match=r"measured weights of .* with content digest 00"):
        card(tmp_path, MASK, report=measured(tmp_path, MASK, "00" * 32))
    with pytest.raises(UsageError, match="no complete evaluation"):
        card(tmp_path, MASK, report=measured(tmp_path, BOX, digest))
    with pytest.raises(UsageError, match="no complete evaluation"):
        card(tmp_path, MASK, report=measured(tmp_path, MASK, digest, verdict=Verdict.PARTIAL))


def test_what_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(MissingResource, match="no such report"):
        card(tmp_path, MASK, report=tmp_path / "none.json")
    for text in ("{", json.dumps({"format": "another", "entries": []})):
        (path := tmp_path / "report.json").write_text(text)
        with pytest.raises(FileError, match="not a report of `cascadezoo verify`"):
            card(tmp_path, MASK, report=path)
