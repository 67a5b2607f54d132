"""`check`: is the configuration valid and, with --online, what does the API of every target do?"""

from exporter.commands.check.command import CheckFormat, check

__all__ = ["CheckFormat", "check"]
