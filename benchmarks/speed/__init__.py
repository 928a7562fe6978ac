"""The parts of `benchmarks/run.py`: the same work on rcnn and on its peers, side by side, in one process.

timing      how two programs are timed fairly beside each other
inputs      what they work on: images, boxes, RoIs, weights, the convolutions of a ResNet-50-FPN
agreement   whether their answers are the same
processors  how many there are, and who else uses them
rows        what a row of the table is; goals
kernels, convolutions, detector, training, memory   the rows
memory_probe   the process whose peak of memory is taken
torch_peer, onnx_peer   the peers; only here are they imported, and only where they are installed
sweeps      cost as work grows, and its plot
machine, report   what ran where; Markdown and JSON
"""
