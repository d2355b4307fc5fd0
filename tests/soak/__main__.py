"""``python -m tests.soak``."""

from .run import main

if __name__ == "__main__":
    main()
