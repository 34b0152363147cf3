"""``mithridate``, noting where jobs stand many times a second, so that kills find notes: ``noting.py run ...``.

Workers import the main script, and so note as often.
"""

from mithridate import work

work.SAVE_EVERY = 0.02  # seconds; 30 otherwise

if __name__ == "__main__":
    from mithridate.cli import main

    main()
