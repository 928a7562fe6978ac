"""`python -m rcnn`: the same as the `rcnn` command."""

import sys

from rcnn.cli import main

sys.exit(main())
