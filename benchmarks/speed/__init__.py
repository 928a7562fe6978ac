"""The parts of `benchmarks/run.py`: the same work on rcnn and on its peers, in one process.

timing      fair timing of several programs in one process
inputs      images, boxes, RoIs, weights, the convolutions of a ResNet-50-FPN
agreement   comparison of the answers
processors  the number of processors, and the CPU use of other processes
rows        rows of the table and their goals
kernels, convolutions, detector, training, memory   the rows
memory_probe   the process whose peak memory is measured
torch_peer, onnx_peer   the peers, imported only here and only if installed
sweeps      cost as the work grows, and its plot
machine, report   machine and versions; Markdown and JSON
"""
