"""What happens while a program runs, made visible: `tl.profile`, `tl.tape`; and what operations are: `tl.explain`.

Contract. This package imports all of the others and is imported by none of them. It is loaded on first use, and while
nothing of it is switched on, no line of it runs: what it wants to see it wraps when it starts, and unwraps at the end.
"""

from .explanation import Explanation as Explanation
from .explanation import explain as explain
from .profiler import Profile as Profile
from .profiler import Row as Row
from .profiler import profile as profile
from .records import Input as Input
from .records import Record as Record
from .records import Tape as Tape
from .records import Value as Value
from .steps import Step as Step
from .watch import tape as tape
from .summary import Summary as Summary
from .summary import summary as summary
