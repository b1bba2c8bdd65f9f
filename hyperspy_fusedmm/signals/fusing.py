"""Which option of the one-line fusion belongs to which step."""

import difflib
import inspect

# Given by fuse() itself, or by HyperSpy when a stored model is restored.
_NOT_OPTIONS = ("self", "haadf", "dictionary")


def route_options(options, *functions):
    """Split options between functions by their signatures.

    Parameters
    ----------
    options : dict
        Keyword arguments.
    *functions : callable
        Their signatures say which options they take.

    Returns
    -------
    list of dict
        The options of each function.

    Raises
    ------
    TypeError
        If an option belongs to none of them; the message lists close matches.

    Examples
    --------
    >>> def draw(colour=None): ...
    >>> def save(name=None): ...
    >>> route_options({"name": "a.png"}, draw, save)
    [{}, {'name': 'a.png'}]
    """
    accepted = [
        [name for name in inspect.signature(function).parameters if name not in _NOT_OPTIONS]
        for function in functions
    ]
    known = [name for names in accepted for name in names]
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = (
                f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}."
            )
            raise TypeError(f"{name}: there is no such option; {hint}")
    return [{name: options[name] for name in names if name in options} for names in accepted]
