"""What happens while a program runs, and what operations are, made visible.

`tl.tape` and `loss.tape()`, `tl.explain`, `tl.doctor`, `model.summary()`, `tl.Meters`, `tl.progress`, `tl.profile`.

Contract. This package imports all of the others and is imported by none of them. It is loaded on first use, and while
nothing of it is switched on, no line of it runs: what it wants to see it wraps when it starts, and unwraps at the end.
"""

from . import meters as meters
from .curves import plot_curves as plot_curves
from .explanation import Explanation as Explanation
from .explanation import explain as explain
from .meters import History as History
from .meters import Meter as Meter
from .meters import Meters as Meters
from .profiler import Profile as Profile
from .profiler import Row as Row
from .profiler import profile as profile
from .progress_bar import Progress as Progress
from .progress_bar import progress as progress
from .records import Input as Input
from .records import Record as Record
from .records import Tape as Tape
from .records import Value as Value
from .steps import Step as Step
from .summary import Summary as Summary
from .summary import summary as summary
from .tensorboard import SummaryWriter as SummaryWriter
from .watch import tape as tape
