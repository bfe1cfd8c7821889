"""`python -m sweeptrail`."""

from sweeptrail.cli import main

if __name__ == "__main__":
    main()
