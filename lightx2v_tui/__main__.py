"""`python -m lightx2v_tui` is `lightx2v-tui`."""

import sys

from lightx2v_tui.cli import main

sys.exit(main())
