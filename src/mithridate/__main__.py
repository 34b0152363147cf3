"""``python -m mithridate``: the same as the command ``mithridate``."""

from mithridate.cli import main

if __name__ == "__main__":
    main()
