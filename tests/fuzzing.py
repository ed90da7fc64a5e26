"""How much the tests with damaged files do: `FUZZ=full make test` takes the full number of them; what they cost."""

import contextlib
import os

FULL = os.environ.get("FUZZ") == "full"


def peak_memory() -> int:
    """Return the most memory that was resident in this process, in kB on Linux; 0 on Windows, which does not say."""
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0
