"""Step-through figures: one picture for each step, with buttons and a slider. They work without a kernel."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from rcnn.course.figures import as_html, check_text

MOST_BYTES = 400_000  # of HTML; a notebook has at most a megabyte
COLORS = 64  # of each frame, because a player has many frames
SECONDS = (0.2, 60.0)  # shortest and longest time of a step

STYLE = """
.rcnn-player { max-width: 100%; }
.rcnn-player .controls { display: none; flex-wrap: wrap; align-items: center; gap: 0.4em; margin: 0.4em 0; }
.rcnn-player.live .controls { display: flex; }
.rcnn-player button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor;
  border-radius: 4px; padding: 0.25em 0.8em; min-width: 5.5em; cursor: pointer; }
.rcnn-player button:disabled { opacity: 0.45; cursor: default; }
.rcnn-player :focus-visible { outline: 3px solid #2f81d8; outline-offset: 1px; }
.rcnn-player input { width: 12em; max-width: 45vw; vertical-align: middle; }
.rcnn-player .frames { display: flex; overflow-x: auto; scroll-snap-type: x mandatory; }
.rcnn-player.live .frames { display: block; overflow: visible; }
.rcnn-player figure { flex: 0 0 100%; margin: 0; scroll-snap-align: start; }
.rcnn-player figure[hidden] { display: none; }
.rcnn-player figcaption { min-height: 3em; margin: 0.3em 0; line-height: 1.45; max-width: 60em; }
"""

# Without this script, the frames stand side by side in a box that scrolls.
SCRIPT = """
for (const player of document.querySelectorAll(".rcnn-player:not(.live)")) {
  player.classList.add("live");
  const frames = [...player.querySelectorAll("figure")];
  const [back, play, forward] = player.querySelectorAll("button");
  const box = player.querySelector(".frames"), slider = player.querySelector("input");
  const position = player.querySelector("output");
  let step = 0, timer = null;
  const show = (next) => {
    step = next;
    frames.forEach((frame, index) => { frame.hidden = index !== step; });
    slider.value = step + 1;
    position.textContent = `${step + 1} of ${frames.length}`;
    slider.setAttribute("aria-valuetext", position.textContent);
    back.disabled = step === 0;
    forward.disabled = step === frames.length - 1;
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    box.setAttribute("aria-live", "polite");
  };
  const advance = () => {
    if (player.isConnected && step < frames.length - 1) show(step + 1);
    if (!player.isConnected || step === frames.length - 1) stop();
  };
  play.onclick = () => {
    if (timer !== null) return stop();
    if (step === frames.length - 1) show(0);
    play.textContent = "Pause";
    box.setAttribute("aria-live", "off");
    timer = setInterval(advance, 1000 * Number(player.dataset.seconds));
  };
  back.onclick = () => { stop(); if (step > 0) show(step - 1); };
  forward.onclick = () => { stop(); if (step < frames.length - 1) show(step + 1); };
  slider.oninput = () => { stop(); show(Number(slider.value) - 1); };
  box.removeAttribute("tabindex");
  stop();
  show(0);
}
"""

CONTROLS = """<div class="controls">
<button type="button">Back</button><button type="button">Play</button><button type="button">Forward</button>
<label>Step <input type="range" min="1" max="{count}" value="1"></label> <output>1 of {count}</output>
</div>"""


class Player:
    """A figure in steps, which a notebook displays with buttons and a slider.

    Parameters
    ----------
    frames : sequence of bytes
        Contents of PNG files of equal size, one for each step.
    captions : sequence of str
        Description of each step.
    seconds : float
        Time that each step is shown while the player runs.

    Raises
    ------
    ValueError
        If the HTML would be larger than 400 kB.
    """

    def __init__(self, frames: Sequence[bytes], captions: Sequence[str], seconds: float) -> None:
        self.frames, self.captions, self.seconds = list(frames), list(captions), seconds
        size = len(self._repr_html_())
        if size > MOST_BYTES:
            raise ValueError(
                f"the player must have at most {MOST_BYTES // 1000} kB, got {size // 1000} kB in {len(self.frames)} "
                "frames; draw fewer or smaller frames"
            )

    def _repr_html_(self) -> str:
        count = len(self.frames)
        figures = [
            f"<figure>{as_html(frame, f'Step {step} of {count}, described in the caption')}<figcaption>"
            f"<strong>Step {step} of {count}.</strong> {html.escape(caption, quote=False)}</figcaption></figure>"
            for step, (frame, caption) in enumerate(zip(self.frames, self.captions, strict=True), start=1)
        ]
        name = f"Figure in {count} steps"
        return "\n".join(
            [
                f'<div class="rcnn-player" role="group" aria-label="{name}" data-seconds="{self.seconds:g}">',
                f"<style>{STYLE}</style>",
                CONTROLS.format(count=count),
                '<div class="frames" tabindex="0">',
                *figures,
                f"</div>\n<script>{SCRIPT}</script>\n</div>",
            ]
        )

    def __repr__(self) -> str:
        steps = [f"{step}. {caption}" for step, caption in enumerate(self.captions, start=1)]
        return "\n".join([f"Figure in {len(steps)} steps:", *steps])


def player(
    frames: Callable[[Any, int], Any] | Sequence[Any],
    captions: Sequence[str],
    size: tuple[float, float] = (9.0, 4.5),
    seconds: float = 1.5,
) -> Player:
    """Return a figure in steps. Call this function in the last line of a notebook cell.

    The reader moves through the steps with buttons and a slider, or lets them run. This needs no kernel, so it also
    works in a saved notebook and on a web page. If scripts are switched off, the reader scrolls from step to step.

    Parameters
    ----------
    frames : callable or sequence of Figure
        Function that draws step i, counted from 0, on an empty figure: ``frames(figure, i)``. Or one figure for each
        step, all of the same size.
    captions : sequence of str
        For each step, text of 30 to 600 characters that describes what happens. It is shown below the figure, and a
        screen reader reads it aloud.
    size : (float, float), optional
        Width and height of the figures that `frames` draws, in inches.
    seconds : float, optional
        Time that each step is shown while the player runs, in [0.2, 60].

    Returns
    -------
    Player
        The steps. Jupyter displays them.

    Raises
    ------
    TypeError
        If `frames` is neither a function nor a sequence.
    ValueError
        If there are fewer than two captions, the numbers of figures and captions differ, figures have different sizes,
        a caption is too short or too long, `seconds` is out of range, or the player would be larger than 400 kB.

    Examples
    --------
    >>> captions = ["The line is horizontal, with slope 0.", "The line rises, and its slope is 1."]
    >>> player(lambda figure, i: figure.subplots().plot([0, i]), captions, size=(3, 2))
    Figure in 2 steps:
    1. The line is horizontal, with slope 0.
    2. The line rises, and its slope is 1.
    """
    from rcnn import plot  # imports matplotlib, which is slow

    if isinstance(captions, str) or len(captions) < 2:
        raise ValueError(f"captions must have one string for each of at least two steps, got {captions!r}")
    texts = [check_text(f"captions[{step}]", caption) for step, caption in enumerate(captions)]
    if not SECONDS[0] <= seconds <= SECONDS[1]:
        raise ValueError(f"seconds must be in [{SECONDS[0]:g}, {SECONDS[1]:g}], got {seconds:g}")
    if callable(frames):
        figures = []
        for step in range(len(texts)):
            figures.append(plot.figure(*size))
            frames(figures[-1], step)
    elif isinstance(frames, Sequence):
        figures = list(frames)
    else:
        raise TypeError(f"frames must be a function or a sequence of figures, got {type(frames).__name__}")
    if len(figures) != len(texts):
        raise ValueError(f"captions must have one string per figure ({len(figures)}), got {len(texts)}")
    if len(sizes := {tuple(figure.get_size_inches().tolist()) for figure in figures}) > 1:
        raise ValueError(f"all figures must have the same size, got {sorted(sizes)}")
    return Player([plot.png(figure, COLORS) for figure in figures], texts, seconds)
