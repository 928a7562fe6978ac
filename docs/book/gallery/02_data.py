# %% [markdown]
# # Data sets
#
# A first look at the images of a data set, and a test of whether the boxes fit the images.

# %%
import numpy as np

from rcnn import data, plot

pages = data.Digits(12, split="val")
items = [pages[i] for i in range(12)]

# %% [markdown]
# `contact_sheet` draws up to sixteen images with their boxes.

# %%
plot.contact_sheet(
    [image for image, _ in items[:8]],
    [target["boxes"] for _, target in items[:8]],
    [target["labels"] for _, target in items[:8]],
    pages.classes,
    [f"page {i}" for i in range(8)],
)

# %% [markdown]
# `fit_histogram` compares how well several versions of the boxes fit. Here, the fit of a box is the mean darkness
# inside it, in units of the darkest page.


# %%
def darkness(image, box):
    x1, y1, x2, y2 = np.clip(np.round(box), 0, 127).astype(int)
    return (255 - image[y1 : y2 + 1, x1 : x2 + 1]).mean() / 255


fits = {
    "boxes of the page": np.array([darkness(image, box) for image, target in items for box in target["boxes"]]),
    "boxes of another page": np.array(
        [darkness(image, box) for i, (image, _) in enumerate(items) for box in items[(i + 1) % len(items)][1]["boxes"]]
    ),
}
figure = plot.figure(8, 3.6)
plot.fit_histogram(figure.subplots(), fits)
figure
