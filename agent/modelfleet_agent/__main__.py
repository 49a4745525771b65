"""`python -m modelfleet_agent` is `modelfleet-agent`."""

import sys

from modelfleet_agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
