"""Threads whose errors are not lost."""

import threading


class Crowd:
    """Threads that begin at once, and are waited for at the end of the block."""

    def __init__(self, *works):
        self.threads, self.errors = [], []
        for work in works:
            self.start(work)

    def start(self, work, *arguments):
        """Begin one more."""

        def run():
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised where they are waited for
                self.errors.append(error)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def is_busy(self):
        """Whether one of them is at work."""
        return any(thread.is_alive() for thread in self.threads)

    def end(self):
        """Wait for them all, and raise what the first of them raised."""
        for thread in self.threads:
            thread.join(60)
        if self.errors:
            raise self.errors[0]
        assert not self.is_busy()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def together(*works):
    """Do all of this at once, each in a thread of its own."""
    Crowd(*works).end()
