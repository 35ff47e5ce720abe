"""When Python looks for garbage: seldom while a program starts, and later not among what it started with.

Imports and routes make hundreds of thousands of objects that stay: to look through them again and again is a fifth of a server's start.
"""

import gc

SELDOM = 100_000
"""New objects before the next look."""
PYTHONS_OWN = (700, 10, 10)


def collect_seldom() -> None:
    gc.set_threshold(SELDOM)


def collect_as_usual() -> None:
    """For a process that stays: what there is now, stays with it."""
    gc.freeze()
    gc.set_threshold(*PYTHONS_OWN)
