"""Explorers: pictures that move when a slider does, for what is understood by moving it.

At the end of a notebook's cell each shows sliders and a picture that follows them. Where no kernel runs (a page on the
web, a printout) or ipywidgets is not installed, it shows a picture of a few chosen positions, which says the same.
"""
