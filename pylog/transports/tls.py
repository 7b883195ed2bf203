"""TLS: the options of every output that connects with it, and what they make.

Certificates are verified unless that is switched off: by the system's authorities, or by those of a
file, and for the name of the host. The TLS is made in memory (ssl.MemoryBIO), not by a socket of
its own, so that it is known which bytes on the wire stand for which data: see transports.streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pylog.errors import BackendError
from pylog.notes import notes
from pylog.options import Option

if TYPE_CHECKING:
    import ssl

OPTIONS = (
    Option("ca", str, None, "the file with the certificates of the authorities that are trusted",
           metavar="FILE", absent="those of the system"),
    Option("certificate", str, None, "the file with the client's own certificate, PEM",
           metavar="FILE"),
    Option("private_key", str, None, "the file with the key of that certificate", metavar="FILE",
           absent="in the certificate's file"),
    Option("private_key_password", str, None, "the password of that key", secret=True),
    Option("server_name", str, None, "the name that the server's certificate must have",
           absent="the host of the address"),
    Option("verify", bool, True, "whether the server's certificate is verified"),
)  # fmt: skip
_NAMES = tuple(option.name for option in OPTIONS)


def check_tls(scheme: str, options: dict[str, Any]) -> None:
    """ValueError for options of TLS with another scheme, or that contradict each other."""
    given = [o.name for o in OPTIONS if options.get(o.name, o.default) != o.default]
    if scheme != "tls" and given:
        raise ValueError(f"{given[0]} is an option of tls://, not of {scheme}")
    if options.get("private_key") and not options.get("certificate"):
        raise ValueError("private_key is given, but no certificate")
    if not options.get("verify", True) and (options.get("ca") or options.get("server_name")):
        raise ValueError("verify is off, but ca or server_name are given")


def tls_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that are of TLS."""
    return {name: options[name] for name in _NAMES if name in options}


def context_of(
    *, ca: str | None = None, certificate: str | None = None, private_key: str | None = None,
    private_key_password: str | None = None, server_name: str | None = None, verify: bool = True,
) -> ssl.SSLContext:  # fmt: skip
    """The settings of a client; BackendError for a file that cannot be used."""
    import ssl  # only here: it takes as long as all of an output

    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        raise BackendError(f"cannot use the certificates of {ca}: {problem_of(error)}") from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        notes.warning("the server's certificate is not verified: anybody can read what is sent")
    if certificate is not None:
        try:  # a password, because without one OpenSSL would ask at the terminal
            context.load_cert_chain(certificate, private_key, lambda: private_key_password or "")
        except (OSError, ValueError) as error:
            raise BackendError(
                f"cannot use the certificate {certificate}"
                f"{f' with the key {private_key}' if private_key else ''}: {problem_of(error)}"
            ) from error
    return context


def problem_of(error: Exception) -> str:
    """Why something failed, as text: without the names of OpenSSL's source files."""
    if message := getattr(error, "verify_message", None):  # ssl.SSLCertVerificationError
        return f"its certificate is not accepted: {message.rstrip('.')}"
    if isinstance(error, OSError) and (word := getattr(error, "reason", None)):  # ssl.SSLError
        return f"TLS: {word.replace('_', ' ').lower()}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
