"""Nothing here is a test: importing the plugin, as a search for doctests would, puts the stand-in driver in place."""

from __future__ import annotations

collect_ignore = ["__init__.py", "plugin.py"]
