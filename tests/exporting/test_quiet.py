"""What other packages say is silenced while they work, however many work at once."""

import logging
import threading
import warnings

import pytest

from cascadezoo.exporting.quiet import quiet


def test_the_process_is_as_loud_as_before(caplog: pytest.LogCaptureFixture) -> None:
    inside, ended = threading.Event(), threading.Event()
    order = []

    def first() -> None:
        with quiet():
            inside.set()
            logging.warning("of the first")
            warnings.warn("of the first", stacklevel=1)
            ended.wait(0.2)
            order.append("first")

    def second() -> None:
        inside.wait()
        with quiet():
            order.append("second")

    threads = [threading.Thread(target=each) for each in (first, second)]
    with warnings.catch_warnings(record=True) as said:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert order == ["first", "second"]
    assert logging.root.manager.disable == 0
    logging.warning("of ours")
    assert [each.getMessage() for each in caplog.records] == ["of ours"]
    assert not said


def test_what_was_silent_stays_so() -> None:
    logging.disable(logging.CRITICAL)
    try:
        with quiet():
            assert not logging.getLogger("torch.onnx").isEnabledFor(logging.CRITICAL)
        assert logging.root.manager.disable == logging.CRITICAL
    finally:
        logging.disable(logging.NOTSET)
