"""A mail server of the loopback that keeps what it is given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from socketserver import StreamRequestHandler, ThreadingTCPServer


@dataclass(frozen=True, slots=True)
class Mail:
    """A message as it was delivered."""

    to: str
    subject: str
    text: str


@dataclass
class Mailbox:
    """What has been delivered to this address of the loopback."""

    port: int = 0
    mails: list[Mail] = field(default_factory=list)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Serve SMTP while the block runs."""
    box = Mailbox()

    class Session(StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 ready")
            while line := self.rfile.readline():
                match line[:4].upper():
                    case b"DATA":
                        self.say("354 go on")
                        box.mails.append(_mail(b"".join(iter(self.rfile.readline, b".\r\n"))))
                        self.say("250 kept")
                    case b"QUIT":
                        self.say("221 bye")
                        return
                    case _:
                        self.say("250 yes")

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    with ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        box.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield box
        finally:
            server.shutdown()
            thread.join()


def _mail(content: bytes) -> Mail:
    # SMTP doubles a dot at the beginning of a line.
    message = message_from_bytes(content.replace(b"\n..", b"\n."), policy=policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(("plain",))
    assert body is not None
    return Mail(str(message["To"]), str(message["Subject"]), body.get_content().replace("\r\n", "\n"))
