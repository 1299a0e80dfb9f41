"""The command ``firebrick``: one module per verb, imported on demand."""


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    from firebrick.cli.entry import run

    run()
