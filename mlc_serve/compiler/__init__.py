"""Architecture + quantization + target -> a library that the Relax VM runs.

Needs all of TVM: a process that was told to load TVM's runtime alone, as one that a server starts is, forgets
it.
"""

from __future__ import annotations

import os

os.environ.pop("TVM_USE_RUNTIME_LIB", None)

from mlc_serve.compiler.script_parsing import take_shorter_ways

take_shorter_ways()
