"""Mixed precision: `autocast` chooses the dtype of each operation, `GradScaler` keeps float16 gradients in range.

    scaler = tl.amp.GradScaler(device)              # float16 only; bfloat16 has the range of float32
    for x, y in loader:
        with tl.autocast(device, tl.float16):
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)                      # leaves everything as it was where a gradient is inf or NaN
        scaler.update()

What runs in which dtype is one table, in autograd/autocast.py.
"""

from .autocast import autocast as autocast
from .autocast import get_autocast_dtype as get_autocast_dtype
from .autocast import is_autocast_enabled as is_autocast_enabled
from .grad_scaler import GradScaler as GradScaler
