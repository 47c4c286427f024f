"""Detect with an exported ONNX file, without PyTorch: ``python onnx_runtime.py model.onnx image.jpg ... > found.json``.

Needs numpy, onnxruntime and OpenCV alone.  Prints COCO's results, masks as uncompressed run lengths; images are numbered
from 1.  What the network wants done before and after it stands in the file's metadata (docs/export.md).
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def resized(image, rule):
    """The publisher's resize of an (H, W, 3) image, and the scale before any rounding."""
    height, width = image.shape[:2]
    scale = rule["min_size"] / min(height, width)
    longer = round(scale * max(height, width)) if rule["rounded_limit"] else scale * max(height, width)
    scale = rule["max_size"] / max(height, width) if longer > rule["max_size"] else scale
    size, steps = [max(1, int(side * scale + 0.5)) for side in (width, height)], {}
    if rule["step"] == "nominal" and round(scale * min(height, width)) >= 1:
        size, steps = None, {"fx": scale, "fy": scale}
    method = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}[rule["interpolation"]]
    return cv2.resize(
        image.astype(np.float32 if rule["float32"] else np.uint8), size, interpolation=method, **steps
    ), scale


def inputs(image, rule, names):
    """What the network takes of an (H, W, 3) uint8 RGB image, as a batch of one."""
    pixels, scale = resized(image, rule)
    original, size = np.float32(image.shape[:2]), np.float32(pixels.shape[:2])
    divisor = rule["size_divisor"]
    (bottom, right) = padding = [int(-side % divisor) for side in size]
    scales = np.float32([scale, scale]) if rule["step"] == "nominal" else (size / original)[::-1]
    bounds = {"resized": size, "unrounded": np.float32(scale * np.float64(original)), "padded": size + padding}
    normed = (pixels.astype(np.float32) - np.float32(rule["mean"])) / np.float32(rule["std"])
    given = {
        "images": pixels[None],  # of a file that normalises and pads itself
        "pixels": np.pad(normed, ((0, bottom), (0, right), (0, 0))).transpose(2, 0, 1)[None],
        "sizes": np.float32(bounds[rule["bounds"]])[None],
        "scales": np.float32(scales)[None],
        "original_sizes": original[None],
    }
    return {name: given[name] for name in names}


def bilinear(cells, box, height, width):
    """Cells (M, M) sampled at the pixels' centres, zero beyond the box; a pixel is set at one half."""

    def weights(low, high, pixels):
        at = (np.arange(pixels) + 0.5 - low) / max(high - low, 1e-6) * len(cells) - 0.5
        return np.maximum(0, 1 - abs(at[:, None] - np.arange(len(cells))))

    return weights(box[1], box[3], height) @ cells @ weights(box[0], box[2], width).T >= 0.5


def integer_box(cells, box, height, width):
    """Cells (M, M) with a rim of zeros resized to the box widened by the rim, in whole pixels; set above one half."""
    middle, half = (box[2:] + box[:2]) / 2, (box[2:] - box[:2]) / 2 * np.float32((len(cells) + 2) / len(cells))
    (x1, y1), (x2, y2) = (middle - half).astype(int), (middle + half).astype(int)
    mask, left, top = np.zeros((height, width), bool), max(x1, 0), max(y1, 0)
    window = mask[top : max(y2 + 1, 0), left : max(x2 + 1, 0)]
    whole = cv2.resize(np.pad(cells, 1), (int(x2 - x1 + 1), int(y2 - y1 + 1)))
    window[:] = whole[top - y1 :, left - x1 :][: window.shape[0], : window.shape[1]] > 0.5
    return mask


def run_lengths(mask):
    """COCO's uncompressed encoding of an (H, W) mask: runs of empty and set pixels by turns, down the columns."""
    changes = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False))
    return {"size": list(mask.shape), "counts": np.diff(changes, prepend=0, append=mask.size).tolist()}


def detect(session, about, path, number):
    """COCO's results of the image at ``path``."""
    image = cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)  # turned as its EXIF says
    names = [node.name for node in session.get_outputs()]
    given = inputs(image, about["preprocess"], [node.name for node in session.get_inputs()])
    found = {name: value[0] for name, value in zip(names, session.run(None, given))}
    for row in range(found["counts"]):
        x1, y1, x2, y2 = map(float, found["boxes"][row])
        extent = about["extent"]
        result = {
            "image_id": number,
            "category_id": about["categories"][found["labels"][row]]["id"],
            "bbox": [x1, y1, x2 - x1 + extent, y2 - y1 + extent],
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
    print(json.dumps([one for i, path in enumerate(sys.argv[2:], 1) for one in detect(session, about, path, i)]))
