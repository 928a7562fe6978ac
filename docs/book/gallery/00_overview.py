# %% [markdown]
# # One image, end to end
#
# Figures of a whole pass of the detector.

# %%
import rcnn
from rcnn import data, plot

model = rcnn.load_digits()
image, target = data.Digits(split="val")[7]
trace = model.trace([image], [target])

# %% [markdown]
# `trace_strip` draws all stages in one figure. This is the figure of `rcnn demo`.

# %%
plot.trace_strip(trace, class_names=model.config.class_names)

# %% [markdown]
# `stage_figures` yields one figure for each stage. This is the one of the proposals.

# %%
dict(plot.stage_figures(trace, class_names=model.config.class_names))["Proposals"]

# %% [markdown]
# `figure` makes an empty figure whose titles and legends stay visible, and `png` turns a figure into a small PNG
# file.

# %%
figure = plot.figure(4, 2)
plot.title(figure.subplots(), "A heading", "a caption")
print(len(plot.png(figure)) < 20_000)
figure
