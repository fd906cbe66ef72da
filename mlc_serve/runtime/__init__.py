"""The engine's backend on TVM: devices, libraries, weights, the paged KV cache, forward passes and sampling.

Works with TVM's runtime alone, and asks TVM to load no more than that: the compiler would cost a server half
a second and a hundred megabytes. A process that wants TVM's compiler beside a server imports tvm before this
package.
"""

from __future__ import annotations

import os

os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
