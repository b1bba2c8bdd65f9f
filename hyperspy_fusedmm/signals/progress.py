"""Whether work shows its progress."""

__all__ = ["is_shown"]


def is_shown(show_progressbar):
    """Whether to show progress; None means as HyperSpy's preferences say."""
    if show_progressbar is None:
        from hyperspy.defaults_parser import preferences

        return bool(preferences.General.show_progressbar)
    return bool(show_progressbar)
