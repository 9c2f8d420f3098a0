import os
import signal
import threading
import time

import pytest

from manyviews.runs.interrupt import Interrupt, Interrupted


def test_first_signal_asks_second_aborts():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        assert interrupt.signal_number is None
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.signal_number is not None
        with pytest.raises(Interrupted) as caught:
            interrupt.raise_if_requested(3)
        assert caught.value.exit_code == 130
        assert "SIGINT after iteration 3" in str(caught.value)
        with pytest.raises(Interrupted, match="at once") as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_others_told_of_first_is_no_second_one():
    with Interrupt() as interrupt:
        interrupt.tell(signal.SIGTERM)
        assert interrupt.signal_number is not None
        assert interrupt.signal_number == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)  # does not leave at once: a checkpoint may be half written
        with pytest.raises(Interrupted, match="SIGTERM after iteration 3"):
            interrupt.raise_if_requested(3)
        with pytest.raises(Interrupted, match="at once"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_closed_terminal_asks_to_stop_too():
    before = signal.getsignal(signal.SIGHUP)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(Interrupted, match="SIGHUP after iteration 3") as caught:
            interrupt.raise_if_requested(3)
        assert caught.value.exit_code == 129
    assert signal.getsignal(signal.SIGHUP) is before


def test_under_nohup_a_closed_terminal_is_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupt.signal_number is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_no_signal_no_error():
    with Interrupt() as interrupt:
        interrupt.raise_if_requested(1)


def wait_out_the_grace():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def test_long_iteration_is_left_after_the_grace():
    began = time.monotonic()
    with Interrupt(grace_seconds=0.1), pytest.raises(Interrupted):
        wait_out_the_grace()
    assert time.monotonic() - began < 3


def test_outside_the_main_thread_it_does_nothing():
    seen = []

    def work():
        with Interrupt() as interrupt:
            seen.append(interrupt.signal_number is not None)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
