"""Signals end a training after the step in progress."""

import os
import signal
import threading

import pytest

from semipose.training.signals import StopSignals


def test_the_first_signal_is_recorded_and_only_an_interrupt_after_it_ends():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        assert signals.received == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_signals_keep_their_effect():
    found = []

    def enter():
        with StopSignals() as signals:
            found.append(signals.received)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [0]
