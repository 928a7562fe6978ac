"""Answers to the checks of `rcnn.checks`: a module for each, with `RIGHT` and `WRONG` answers.

RIGHT: three functions or more, in different styles, that the check must let pass. WRONG: pairs of a function that
people plausibly write and words (a regular expression) of the message that it must be rejected with.
"""
