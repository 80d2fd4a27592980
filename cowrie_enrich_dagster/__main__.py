"""`cowrie-enrich` and `python -m cowrie_enrich_dagster`."""

import gc


def main() -> None:
    """Run the command that the process was called with, and exit with its code."""
    gc.disable()  # a fifth of the start would go into looking for garbage among what is imported
    from cowrie_enrich_dagster.cli import app

    gc.freeze()  # it stays: later searches pass over it
    gc.enable()
    app()


if __name__ == "__main__":
    main()
