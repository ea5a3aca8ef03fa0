"""``python -m tmt_geo``: the same as the command ``tmt-geo``."""

from tmt_geo.cli import main

if __name__ == "__main__":
    main()
