"""`modelfleet`: run the command line, or say which extra is missing."""

import importlib
import sys

OURS = "modelfleet_"
ADVICE = 'pip install "modelfleet[server]"'


def main() -> int:
    """Run the command and return its exit code; 1 if the server extra is not installed."""
    try:
        return int(importlib.import_module("modelfleet_server.cli").main())
    except ImportError as error:
        if error.name is None or error.name.startswith(OURS):
            raise  # a defect of ours, not something to install
        sys.exit(f"modelfleet: {error.name} is not installed. Run: {ADVICE}")
