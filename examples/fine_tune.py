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
    schedule="3",  # epochs
    batch_size=4,
    workers=0,
    log_every=5,
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
        print("after step", record["step"], record["figures"]["bbox"]["AP"], record["figures"]["segm"]["AP"])

# %% [markdown]
# ## Use it
#
# The file brings its classes.  Twelve steps are few: scores are low, and the shapes are found all the same.

# %%
model = cascadezoo.load("cascade_mask_r18_fpn_shapes", weights=final)
image = Image.open(data / "val" / "000002.png")
detections = model.predict(image)
print(list(model.categories), detections)
best = detections[:3]
best.plot(image)
