"""The command ``firebrick``: one module for each verb, imported when the verb is asked for."""


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    from firebrick.cli.entry import run

    run()
