"""The commands: what ``sppnet NAME`` and ``python tools/NAME.py`` do, a module each."""
