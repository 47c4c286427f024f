# %% [markdown]
# # First steps: predict, look, save
#
# The small model inside the package finds coloured shapes, so that everything here runs without a network and in
# seconds on a CPU.  With the name of a published entry, such as `cascade_mask_x101_64x4d_fpn_3x`, and a photo, the same
# lines fetch its weights and find COCO's 80 classes.

# %%
from pathlib import Path

from PIL import Image

import cascadezoo
from cascadezoo import shapes

cascadezoo.list_models("cascade_mask_r50*")

# %% [markdown]
# ## Predict
#
# `predict` takes a path, a PIL image, an array, a tensor, or a list of these.  Here it gets a drawn scene.

# %%
model = cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True)
scene = Image.fromarray(shapes.scene("val", 10).image)
image = scene.resize((2 * scene.width, 2 * scene.height))
detections = model.predict(image)
detections

# %% [markdown]
# ## Look
#
# Detections come best first.  An index chooses some of them, as with an array; `plot` draws them on the image.

# %%
sure = detections[detections.scores > 0.5]
sure.plot(image)

# %%
for one in sure:
    x1, y1, x2, y2 = one.box
    print(f"{one.name:10} {one.score:.2f}  from ({x1:.0f}, {y1:.0f}) to ({x2:.0f}, {y2:.0f})")

# %% [markdown]
# Masks are made when they are asked for: as truth values for every pixel, or as COCO's run lengths, which never take
# the memory of the former.

# %%
masks = sure.masks
print("masks", tuple(masks.shape), masks.dtype, "pixels of each:", masks.sum((1, 2)).tolist())
print("the first as run lengths:", sure.rles()[0]["counts"][:40], "...")

# %% [markdown]
# A list of images is detected on in batches, and gives a list.

# %%
several = [shapes.scene("val", index).image for index in range(6)]
for found in model.predict(several, batch_size=3):
    print(found[found.scores > 0.5])

# %% [markdown]
# ## Save
#
# `save` writes a COCO annotation file, `to_coco` gives the records of a COCO results file.

# %%
folder = Path("first_steps")
folder.mkdir(exist_ok=True)
sure.plot(image).save(folder / "picture.png")
print(sure.save(folder / "annotations.json"))
sure.to_coco(image_id=1)[0].keys()
