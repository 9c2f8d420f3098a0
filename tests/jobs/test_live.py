"""A report that is drawn while a job runs does not cost it memory."""

import weakref

from manyviews.jobs.live import LiveReport


class State:
    """Stands for volumes."""


def test_a_state_that_was_shown_is_not_kept():
    """Libraries that draw catch errors of their own, whose frames hold the state in a cycle."""

    def refresh():
        try:
            raise ValueError
        except ValueError as error:
            kept = error
        return kept

    state = State()
    kept = weakref.ref(state)
    LiveReport(lambda state: None, refresh, print).show(state)
    del state
    assert kept() is None
