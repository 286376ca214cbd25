"""`capture`: a whole training step recorded once, and then replayed with hardly any Python.

step       Captured: what the decorator makes of a function, and the recordings it holds by signature
recorded   one recording: what a replay must look at before, and do afterwards
surroundings   what a function uses besides its arguments, and whether that has changed
results    tensors that a replay fills, and that the next one overwrites
"""

from .step import Captured as Captured
from .step import RecordingStats as RecordingStats
from .step import Stats as Stats
from .step import capture as capture
