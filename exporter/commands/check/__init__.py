"""`check`: is the configuration valid and, with --online, what does the API of every target do?"""

from exporter.commands.check.command import check

__all__ = ["check"]
