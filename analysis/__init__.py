"""Reads the files that vbon writes (HDF5, JSON, YAML) and makes tables, figures and reports of them.

Run as `python -m analysis COMMAND ...`. It needs no vbon, no model and no GPU: only the files.
"""

import os

# Files may come from anybody: HDF5 loads no filter plugins for them. Has to be set before the library is loaded.
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")
