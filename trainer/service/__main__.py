"""`python -m trainer.service`, which is `make service`: the tracking server of a team on this machine."""

import os
import sys
import traceback

from trainer.core.errors import EmotionsError
from trainer.core.tracebacks import is_debugging
from trainer.service.native.run import run
from trainer.service.settings import ServiceSettings


def main() -> int:
    """Run the service until it is stopped; 1 when it cannot start."""
    os.umask(0o077)
    try:
        run(ServiceSettings.read(), lambda text: print(text, flush=True))
    except EmotionsError as error:
        if is_debugging():
            traceback.print_exc()
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
