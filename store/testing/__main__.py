"""Print docs/errors.md."""

from firebrick.testing import errors_table

if __name__ == "__main__":
    print(errors_table(), end="")
