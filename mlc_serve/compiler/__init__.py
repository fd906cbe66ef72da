"""Architecture + quantization + target -> a library that the Relax VM runs.

It needs all of TVM. A process that a server starts has inherited the setting by which only TVM's runtime is
loaded, so this package removes that setting.
"""

from __future__ import annotations

import os

os.environ.pop("TVM_USE_RUNTIME_LIB", None)

from mlc_serve.compiler.script_parsing import take_shorter_ways

take_shorter_ways()
