"""`check`: does the configuration hold, and (online) what does the API of every target do?"""

from exporter.commands.check.command import Format, Wanted, check

__all__ = ["Format", "Wanted", "check"]
