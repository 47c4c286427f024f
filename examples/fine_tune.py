# %% [markdown]
# # Fine-tune on your own data
#
# Training takes COCO's format: a file of annotations and a folder of images.  The data set here is drawn, and small
# enough for minutes on a CPU.  Yours takes the place of the two paths; files of YOLO, Pascal VOC and LabelMe become
# COCO's by `cascadezoo data convert`, and `cascadezoo data check` names every fault of a file.

# %%
import json
from pathlib import Path

from PIL import Image

import cascadezoo
from cascadezoo import shapes

data = Path("fine_tune/data")
train_json = shapes.generate("train", data, 24)
val_json = shapes.generate("val", data, 8)
print(train_json, val_json)

# %% [markdown]
# ## Train
#
# The run starts from the weights inside the package and learns two of the eight classes.  Layers whose shape depends on
# the number of classes are newly initialised, and named in a message.

# %%
config = cascadezoo.TrainingConfig(
    entry="cascade_mask_r18_fpn_shapes",
    pretrained=True,
    classes=("star", "ring"),
    train_json=train_json,
    train_images=data / "train",
    val_json=val_json,
    val_images=data / "val",
    schedule="4",  # epochs
    lr=0.002,
    batch_size=4,
    workers=0,
    log_every=5,
    eval_every=4,
    run_dir=Path("fine_tune/run"),
)
final = cascadezoo.train(config)
print(final.name, "of", sorted(path.name for path in final.parent.iterdir()))

# %% [markdown]
# The log holds a record for every few steps, and one for each evaluation.

# %%
for line in (config.run_dir / "log.jsonl").read_text().splitlines():
    record = json.loads(line)
    if record["kind"] == "evaluation":
        boxes, masks = (record["figures"][kind]["AP"] for kind in ("bbox", "segm"))
        print(f"after step {record['step']}: box AP {boxes:.1f}, mask AP {masks:.1f}")

# %% [markdown]
# ## Use it
#
# The file brings its classes.  Twenty steps are few: a run of your own takes thousands, at its publisher's learning
# rate.

# %%
model = cascadezoo.load("cascade_mask_r18_fpn_shapes", weights=final)
image = Image.open(data / "val" / "000004.png")
detections = model.predict(image)
print(list(model.categories), detections)
best = detections[:4]
best.plot(image)
