"""What all hooks share: the recorder that they fill, and its counts."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from calibration_ledger.errors import InvalidInputError, shown
from calibration_ledger.verbs.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.verbs.complaints import OnError

_recorders: WeakKeyDictionary[AdaptiveCalibrator, ref[Recorder]] = WeakKeyDictionary()
_lock = RLock()


class Hook:
    """Records the calls of the program that it runs in.

    Attributes:
        recorder: what records them.
    """

    recorder: Recorder

    @property
    def recorded(self) -> int:
        """How many calls are in the ledger."""
        return self.recorder.recorded

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many calls nothing could be learnt from, by reason, such as `failed`."""
        return self.recorder.skipped

    @property
    def dropped(self) -> int:
        """How many calls were lost, because too many waited for the ledger."""
        return self.recorder.dropped


def recorder_of(calibrator: AdaptiveCalibrator | Recorder, on_error: OnError) -> Recorder:
    """The recorder that is meant; the hooks of a calibrator share one, and its first `on_error`.

    So a request that a watch and a transport see is recorded once, and clients may come and go.

    Raises:
        InvalidInputError: it is neither.
    """
    if isinstance(calibrator, Recorder):
        return calibrator
    make = maker_of(calibrator)
    with _lock:
        held = _recorders.get(calibrator)
        found = None if held is None else held()
        if found is None or found.is_closed:
            found = make(on_error=on_error)
            _recorders[calibrator] = ref(found)
        return found


def maker_of(calibrator: AdaptiveCalibrator) -> Callable[..., Recorder]:
    """What makes a recorder, for a hook that closes its own.

    Raises:
        InvalidInputError: it is no calibrator.
    """
    make: Callable[..., Recorder] | None = getattr(calibrator, "recorder", None)
    if not callable(make) or isinstance(calibrator, type):
        raise InvalidInputError(
            f'a calibrator, such as AdaptiveCalibrator("calls.db"), or a recorder is needed, not '
            f"{shown(calibrator)}."
        )
    return make
