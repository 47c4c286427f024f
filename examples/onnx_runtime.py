"""Detect with an exported ONNX file, without PyTorch: ``python onnx_runtime.py model.onnx image.jpg ... > found.json``.

Needs only numpy, onnxruntime and OpenCV, and Pillow for models that resize by it.  Prints COCO's results, masks as
uncompressed run lengths; the first image is number 1.  What the network wants done before and after it stands in the
file's metadata (docs/export.md).
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime

INTERPOLATION = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}


def resize(image, rule):
    """An (H, W, 3) image at the network's scale, and that scale before any rounding."""
    short, long = sorted(image.shape[:2])
    scale = first = rule["min_size"] / short
    length = round(scale * long) if rule["rounded_limit"] else scale * long
    scale = rule["max_size"] / long if length > rule["max_size"] else scale
    sides = [side * scale for side in image.shape[1::-1]]
    if rule["scaled_twice"]:  # the limit is one of sides that are scaled already
        sides = [rule["min_size"] if side == short else side * first for side in image.shape[1::-1]]
        sides = [side * min(1, rule["max_size"] / max(sides)) for side in sides]
    size = [max(1, int(side + 0.5)) for side in sides]
    if rule["resized_by"] == "Pillow":
        from PIL import Image

        levels = Image.fromarray(image)
        for step in ((size[0], image.shape[0]), size):  # across, then down: versions of Pillow differ in the order
            levels = levels.resize(step, Image.Resampling.BILINEAR)
        return np.array(levels), scale
    nominal = rule["step"] == "nominal" and round(scale * short) >= 1
    given = {"dsize": None, "fx": scale, "fy": scale} if nominal else {"dsize": size}
    levels = image.astype(np.float32) if rule["float32"] else image
    return cv2.resize(levels, interpolation=INTERPOLATION[rule["interpolation"]], **given), scale


def prepare(image, rule):
    """Whatever a file may take of an (H, W, 3) uint8 RGB image, as batches of one."""
    pixels, scale = resize(image, rule)
    original, size = np.float64(image.shape[:2]), np.float64(pixels.shape[:2])
    least = rule["max_size"] if rule["square"] else size
    padding = least + -least % rule["size_divisor"] - size
    below, right = padding.astype(int)
    normed = (np.float32(pixels) - np.float32(rule["mean"])) / np.float32(rule["std"])
    padded = np.pad(normed, ((0, below), (0, right), (0, 0)))
    bounds = {"resized": size, "unrounded": scale * original, "padded": size + padding}[rule["bounds"]]
    scales = [scale, scale] if rule["step"] == "nominal" else (size / original)[::-1]
    rows = {"sizes": bounds, "scales": scales, "original_sizes": original}
    return {
        "images": pixels[None],  # of a file that normalises and pads by itself
        "pixels": np.ascontiguousarray(padded.transpose(2, 0, 1)[None]),
        **{name: np.float32(row)[None] for name, row in rows.items()},
    }


def fitted(values, node, path):
    """What an input takes: pixels padded further where the file's height and width are fixed."""
    more = [side - have if isinstance(side, int) else 0 for side, have in zip(node.shape, values.shape, strict=True)]
    if min(more) < 0 or (any(more) and node.name != "pixels"):
        sys.exit(f"{path}: its {node.name} are {list(values.shape)}, and the file takes only {node.shape}")
    return np.pad(values, [(0, each) for each in more])


def bilinear(cells, box, height, width):
    """Cells (M, M) over the box, sampled at the pixels' centres and zero beyond it; set at one half or more."""
    x1, y1, x2, y2 = np.float64(box)
    columns, rows = (
        (np.arange(width) + 0.5 - x1) / max(x2 - x1, 1e-6),
        (np.arange(height) + 0.5 - y1) / max(y2 - y1, 1e-6),
    )
    across, down = (
        np.maximum(0, 1 - np.abs(at[:, None] * len(cells) - 0.5 - np.arange(len(cells)))) for at in (columns, rows)
    )
    return down @ cells @ across.T >= 0.5


def integer_box(cells, box, height, width):
    """Cells (M, M) with a rim of zeros, resized to the box widened by that rim, in whole pixels; set above one half."""
    middle, half = (box[2:] + box[:2]) / 2, (box[2:] - box[:2]) / 2 * np.float32((len(cells) + 2) / len(cells))
    (x1, y1), (x2, y2) = (middle - half).astype(int), (middle + half).astype(int)
    mask = np.zeros((height, width), bool)
    window = mask[max(y1, 0) : max(y2 + 1, 0), max(x1, 0) : max(x2 + 1, 0)]
    resized = cv2.resize(np.pad(cells, 1), (int(x2 - x1 + 1), int(y2 - y1 + 1)))[max(-y1, 0) :, max(-x1, 0) :]
    window[:] = resized[: window.shape[0], : window.shape[1]] > 0.5
    return mask


def run_lengths(mask):
    """An (H, W) mask as COCO's uncompressed runs of empty and set pixels by turns, down the columns."""
    changes = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False))
    return {"size": list(mask.shape), "counts": np.diff(changes, prepend=0, append=mask.size).tolist()}


def detect(session, about, path, number):
    """COCO's results for the image at ``path``."""
    levels = cv2.imread(path)
    if levels is None:
        sys.exit(f"{path}: no image that OpenCV can read")
    image = levels[..., ::-1]  # turned as its EXIF orientation says, BGR to RGB
    outputs = [node.name for node in session.get_outputs()]
    prepared = prepare(np.ascontiguousarray(image), about["preprocess"])
    values = session.run(outputs, {node.name: fitted(prepared[node.name], node, path) for node in session.get_inputs()})
    found = {name: value[0] for name, value in zip(outputs, values, strict=True)}
    for row in range(found["counts"]):
        x1, y1, x2, y2 = found["boxes"][row].tolist()
        result = {
            "image_id": number,
            "category_id": about["categories"][found["labels"][row]]["id"],
            "bbox": [x1, y1, x2 - x1 + about["extent"], y2 - y1 + about["extent"]],
            "score": float(found["scores"][row]),
        }
        if "masks" in found:
            paste = {"bilinear": bilinear, "integer_box": integer_box}[about["paste"]]
            mask = paste(found["masks"][row], found["boxes"][row], *image.shape[:2])
            result["segmentation"] = run_lengths(mask)
        yield result


if __name__ == "__main__":
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["cascadezoo"])
    print(json.dumps([found for i, path in enumerate(sys.argv[2:], 1) for found in detect(session, about, path, i)]))
