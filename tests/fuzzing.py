"""How much the tests with damaged files do: `FUZZ=full make test` takes the full number of them."""

import os

FULL = os.environ.get("FUZZ") == "full"
