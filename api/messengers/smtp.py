"""E-mail: text with the picture attached, to a server with TLS from the start, TLS on demand, or none."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
from email.message import EmailMessage
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from api.messengers.note import Host, Later, Line, Note, Port, Refused
from api.messengers.reach import CONNECT, WHOLE, Reach, deadline, keep, wrap
from api.messengers.secret import SecretName, Use, secret

PICTURES = True
Mailbox = Annotated[str, Meta(
    pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?$(?!\n)",
    max_length=254, examples=["safety@example.org"])]


class Smtp(msgspec.Struct, tag_field="kind", tag="smtp"):
    """A mail server and who gets the mail."""

    host: Host
    sender: Mailbox
    to: Annotated[list[Mailbox], Meta(min_length=1, max_length=50)]
    port: Port = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: Line = ""  # empty: no login
    password: SecretName | None = None


def use(options: Smtp) -> Use:
    return Use((options.password,) if options.password else (), options.host, options.security == "none")


def mail(options: Smtp, note: Note) -> EmailMessage:
    made = EmailMessage()
    # a header is one line, whatever stands in the name of a camera
    made["Subject"] = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", note.title)
    made["From"], made["To"] = options.sender, ", ".join(options.to)
    made["Message-ID"] = f"<{note.id}@maskwatch>"
    made["Maskwatch-Delivery"], made["Auto-Submitted"] = note.id, "auto-generated"
    made.set_content("\n".join((*note.lines, "", note.link)) if note.link else "\n".join(note.lines))
    if note.picture:
        made.add_attachment(note.picture, maintype="image", subtype="jpeg", filename="evidence.jpg")
    return made


class _Server(smtplib.SMTP):
    """Connects only where it may."""

    def __init__(self, options: Smtp, reach: Reach) -> None:
        self.options, self.reach, self.guard = options, reach, contextlib.ExitStack()
        super().__init__(timeout=WHOLE)
        self._host = options.host  # smtplib sets it when given a host; STARTTLS checks the certificate by it

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # as smtplib.SMTP_SSL does it
        made = self.reach.connect(host, port, CONNECT)
        made.settimeout(timeout)
        self.guard.enter_context(deadline(made))
        return wrap(made, host) if self.options.security == "tls" else made


def send(options: Smtp, note: Note, reach: Reach) -> str:
    password = "" if options.password is None else secret(options.password, options.host)
    message = mail(options, note)
    server = _Server(options, reach)
    try:
        server.connect(options.host, options.port)
        server.ehlo_or_helo_if_needed()
        if options.security == "starttls":
            server.starttls(context=ssl.create_default_context())
        if options.user:
            keep(server.sock, options.host)
            server.login(options.user, password)
        refused = server.send_message(message, options.sender, options.to)
        with contextlib.suppress(smtplib.SMTPException, OSError):  # it was taken, whatever comes of the goodbye
            server.quit()
        if refused:  # some were taken: again would reach them twice
            return f"not to {', '.join(f'{who} ({code} {why!r})' for who, (code, why) in refused.items())}"
        return f"taken for {len(options.to)}"
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        raise (Refused if all(code >= 500 for code in codes) else Later)(f"recipients: {error.recipients}") from None
    except smtplib.SMTPNotSupportedError as error:
        raise Refused(str(error)) from None
    except smtplib.SMTPResponseException as error:
        words = f"{error.smtp_code} {error.smtp_error!r}"
        raise (Refused if error.smtp_code >= 500 else Later)(words) from None
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise Later(f"{options.host}: {type(error).__name__}: {error}") from None
    finally:
        server.guard.close()
        server.close()
