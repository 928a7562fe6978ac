"""The command `python -m rcnn`, which does the same as the command `rcnn`."""

import sys

from rcnn.cli.process import main

sys.exit(main())
