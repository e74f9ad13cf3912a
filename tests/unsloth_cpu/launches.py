"""How often Unsloth's own code makes a 4-bit matrix whole in a micro-batch, and launches Triton kernels: one JSON
object. Without checkpoints, which need a card's pinned memory."""

import json
import sys
from collections import Counter

import on_cpu
from triton.runtime.interpreter import GridExecutor

from doitune.backends.loaded import LoadRequest
from doitune.backends.pick import pick_backend
from doitune.base.find import find_base
from doitune.prompt.batch import flatten
from doitune.selftest.gpu_part import rows

found = Counter()


def counted(name, own):
    def call(*given, **words):
        found[name] += 1
        return own(*given, **words)

    return call


for name, module in list(sys.modules.items()):
    if name.startswith("unsloth.kernels") and hasattr(module, "fast_dequantize"):
        module.fast_dequantize = counted("whole", on_cpu._dequantised)
GridExecutor.__call__ = counted("triton", GridExecutor.__call__)
base = find_base(sys.argv[1])
model = pick_backend("unsloth", base)[1].load(LoadRequest(base, compute_dtype="fp32", rank=4))
model.training(True)
for _ in range(2):
    found.clear()
    model.loss(flatten(rows(262, (9, 30, 17, 24), untrained=0.0)), 76).value.backward()
print(json.dumps({"layers": len(model.decoder.layers), **found}))
