"""Answers to the checks of `rcnn.checks`, right and wrong: one module per check, with `RIGHT` and `WRONG`.

RIGHT: at least three functions in different styles that pass the check. WRONG: pairs of a function with a plausible
mistake and a regular expression that its failure message must match.
"""
