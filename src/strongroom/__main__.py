"""``python -m strongroom``: the same as the command ``strongroom``."""

from strongroom.cli.main import entry

if __name__ == "__main__":
    entry()
