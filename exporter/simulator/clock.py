"""The simulated clock: it starts at the present and runs as fast as it is told, or stands still."""

from __future__ import annotations

from collections.abc import Callable

from exporter.errors import ConfigError


class SimulatedClock:
    """
    Simulated time over a monotonic source of real seconds.

    Units: `now_ms` is Unix milliseconds; `speed` is simulated seconds per real second.
    """

    def __init__(self, start_ms: int, speed: float, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._base_ms = start_ms
        self._base_seconds = monotonic()
        self.speed = speed

    def now_ms(self) -> int:
        return self._base_ms + int((self._monotonic() - self._base_seconds) * self.speed * 1000)

    def set_speed(self, speed: float) -> None:
        """
        Run at another speed from now on; 0 stands still.

        Raises: ConfigError for a speed below 0, or none.
        """
        if not 0 <= speed < float("inf"):
            raise ConfigError([f"speed: {speed}: expected a number of 0 or more"])
        self.jump(0)
        self.speed = speed

    def jump(self, seconds: float) -> None:
        """
        Go forward at once by simulated seconds.

        Raises: ConfigError for a jump back.
        """
        if not 0 <= seconds < float("inf"):
            raise ConfigError([f"advance_seconds: {seconds}: expected a number of 0 or more"])
        now_seconds = self._monotonic()
        passed_ms = int((now_seconds - self._base_seconds) * self.speed * 1000)
        self._base_ms += passed_ms + int(seconds * 1000)
        self._base_seconds = now_seconds
