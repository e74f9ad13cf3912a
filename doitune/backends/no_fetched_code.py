"""No library may fetch compiled code from the hub: the package that does it cannot be imported any more.

transformers and bitsandbytes use `kernels` unasked wherever it is installed.
"""

from __future__ import annotations

import logging
import sys

sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]

# it warns that `kernels` is missing
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
