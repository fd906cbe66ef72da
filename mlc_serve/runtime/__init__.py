"""The engine's backend on TVM: devices, libraries, weights, the paged KV cache, forward passes and sampling.

It needs only TVM's runtime, and asks TVM to load nothing else: the compiler would cost a server half a second
and a hundred megabytes. A process that also needs TVM's compiler must import tvm before this package.
"""

from __future__ import annotations

import os

os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
