"""The command `python -m rcnn`, which is the same as `rcnn`."""

import sys

from rcnn.cli import main

sys.exit(main())
