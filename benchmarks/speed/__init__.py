"""The modules of `benchmarks/run.py`, which runs the same work in rcnn and in other libraries, its *peers*.

A *row* is one line of a table: a piece of work that is measured. The *contestants* of a row are rcnn and its peers,
which all do this work. A *contest* is the comparison of the contestants of one row.

rows           rows, contests and goals
kernels, convolutions, detector, training, memory    the rows of each kind of work
sweeps         rows that show how the time grows with the amount of work, and their plot
torch_peer, onnx_peer    the peers; only these modules import them
timing         timing of several contestants in one process
agreement      comparison of their results
inputs         images, boxes, RoIs, weights, and the convolutions of a ResNet-50-FPN
memory_probe   the process whose peak memory is measured
processors     the number of CPUs, and their use by other processes
machine        the machine and the versions
report         tables in Markdown, and JSON
record         docs/results.json
"""
