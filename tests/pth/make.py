"""Write the .pth files in this folder. It requires PyTorch: PYTHONPATH=tests python tests/pth/make.py

kinds.pth, kinds_legacy.pth: `pthfiles.kinds()` as a state dict, in both formats.
kinds_protocol4.pth: the same with another pickle protocol, and without checksums.
old_names.pth: `pthfiles.old_names()` in the legacy format, as torchvision published such files.
training.pth: file of a training script with the state dict of a small network under "model", an optimizer, an epoch.
"""

from collections import OrderedDict

import numpy as np
import pthfiles
import torch


def kinds() -> "OrderedDict[str, torch.Tensor]":
    """Return `pthfiles.kinds()` as PyTorch tensors, with shared storages and strides."""
    arrays = pthfiles.kinds()
    shared = torch.from_numpy(arrays["whole"].copy())
    special = {
        "bfloat16": torch.from_numpy((arrays["bfloat16"].view(np.uint32) >> 16).astype(np.uint16).view(np.int16)).view(
            torch.bfloat16
        ),
        "whole": shared,
        "tied": shared,
        "turned": shared.view(4, 6).t(),
        "stepped": shared[5:17:3],
        "expanded": torch.from_numpy(arrays["expanded"][:1, 0].copy()).expand(3, 2),
        "parameter": torch.nn.Parameter(torch.from_numpy(arrays["parameter"].copy())),
    }
    tensors = OrderedDict((name, special.get(name, torch.from_numpy(array.copy()))) for name, array in arrays.items())
    tensors._metadata = OrderedDict([("", {"version": 1})])  # as Module.state_dict() attaches it
    return tensors


def training() -> dict[str, object]:
    """Return the state of a training script after a step; the weights are 0, 1, 2, ... in order."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    for start, tensor in enumerate(network.state_dict().values()):
        tensor.copy_(torch.arange(start, start + tensor.numel()).view(tensor.shape))
    return {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "args": {"lr": 0.1}}


def main() -> None:
    torch.save(kinds(), pthfiles.FOLDER / "kinds.pth")
    torch.save(kinds(), pthfiles.FOLDER / "kinds_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(training(), pthfiles.FOLDER / "training.pth")
    old_names = OrderedDict((name, torch.from_numpy(array)) for name, array in pthfiles.old_names().items())
    torch.save(old_names, pthfiles.FOLDER / "old_names.pth", _use_new_zipfile_serialization=False)
    torch.serialization.set_crc32_options(False)
    torch.save(kinds(), pthfiles.FOLDER / "kinds_protocol4.pth", pickle_protocol=4)


if __name__ == "__main__":
    main()
