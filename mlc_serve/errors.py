"""Every exception that mlc_serve raises on purpose.

    MLCServeError
    ├── RequestError              one client's request is at fault, or can't be served now
    │   ├── InvalidRequestError     400  a field is malformed, out of range or contradictory
    │   ├── UnsupportedFieldError   400  a field asks for what this server does not do
    │   ├── ContextLengthError      400  the prompt can never fit
    │   ├── AuthenticationError     401
    │   ├── ModelNotFoundError      404
    │   ├── UnknownPathError        404
    │   ├── MethodNotAllowedError   405
    │   ├── ReaderTooSlowError      408  a stream was not read while it was written
    │   ├── BodyTooLargeError       413
    │   ├── QueueFullError          429  retry later
    │   ├── RequestFailedError      500  this request broke while it ran; others go on
    │   ├── EngineDeadError         500  the engine loop has ended; nothing more is computed
    │   └── ShuttingDownError       503  the server drains
    ├── RemoteServerError         a server that was asked over HTTP refuses, fails or is not there
    ├── StartupError              the server can't start; its text is the one line the user sees
    │   ├── ConfigError             a flag, an --overrides key or a value
    │   ├── CheckpointError         a model directory, its files or its download
    │   │   └── DownloadError         a download that may succeed later
    │   ├── DeviceError             a device that is not there
    │   ├── CompileError            a model that can't be compiled
    │   ├── DamagedArtifactError    an entry of the cache is not what was put there
    │   ├── DiskFullError           there is no room left on a disk
    │   ├── PortInUseError          the address is taken
    │   └── CommandError            a supervisor can't run the server's program
    └── SupervisionError          a supervised server is not, or not yet, to be had

Request errors know the HTTP status and the wire fields of OpenAI's error object; nothing here knows HTTP.
Start-up errors know the exit code of a process that they end.
"""

from __future__ import annotations

from typing import ClassVar

# The exit codes of the command line: what a shell or a supervisor learns from a process that has ended. Those
# from 64 to 78 have the numbers that sysexits.h gives to such ends.
EXIT_OK = 0
# Something is missing that may be there the next time: a device, a tool, a place to write to.
EXIT_STARTUP_ERROR = 1
# A flag, a key or a value is wrong: the same command line will never start. argparse's own number.
EXIT_CONFIG_ERROR = 2
# The model can't be used: its directory or a file of it is missing or wrong. It will not start either.
EXIT_CHECKPOINT_ERROR = 65
# The model could not be downloaded, which may succeed later.
EXIT_DOWNLOAD_FAILED = 69
# An engine died, and what supervises the process should start it again.
EXIT_ENGINE_DEAD = 70
# A disk is full.
EXIT_DISK_FULL = 74
# Another process has the address; another port will do.
EXIT_PORT_IN_USE = 75
# What a shell reports of SIGINT and of SIGTERM.
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class MLCServeError(Exception):
    """Base of all errors raised by mlc_serve."""


class RequestError(MLCServeError):
    """A request is refused or has failed.

    `param` names the field at fault, as a path (`messages.0.content`).
    """

    status: ClassVar[int] = 400
    type: ClassVar[str] = "invalid_request_error"
    code: ClassVar[str | None] = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidRequestError(RequestError):
    """A field is malformed, out of range, or contradicts another."""

    code = "invalid_value"


class UnsupportedFieldError(RequestError):
    """A field asks for something that this server does not do."""

    code = "unsupported"


class ContextLengthError(RequestError):
    """A prompt that could never be computed, however long it waited."""

    code = "context_length_exceeded"

    @classmethod
    def of_prompt(cls, length: str, limit: int, param: str) -> ContextLengthError:
        """The error for a prompt whose length is told in words; `limit` counts tokens of prompt and output.

        Clients know this error by the words "maximum context length", or by its code.
        """
        return cls(
            f"This model's maximum context length is {limit} tokens, one of which has to be left for the "
            f"output; the prompt has {length}.",
            param,
        )


class AuthenticationError(RequestError):
    """The API key is missing or wrong."""

    status = 401
    code = "invalid_api_key"


class ModelNotFoundError(RequestError):
    """No engine serves the model that the request names."""

    status = 404
    code = "model_not_found"


class UnknownPathError(RequestError):
    """The server answers nothing at this path."""

    status = 404
    code = "unknown_path"


class MethodNotAllowedError(RequestError):
    """The path is known, but not with this HTTP method."""

    status = 405
    code = "method_not_allowed"


class RequestTimeoutError(RequestError):
    """The request did not arrive within the time that the server gives it."""

    status = 408
    code = "request_timeout"


class ReaderTooSlowError(RequestError):
    """More of a stream waited for its reader than the server keeps."""

    status = 408
    code = "reader_too_slow"


class BodyTooLargeError(RequestError):
    """The request's body is longer than the server reads."""

    status = 413
    code = "body_too_large"


class UnknownHostError(RequestError):
    """The Host header names another server."""

    status = 421
    code = "unknown_host"


class HeadersTooLargeError(RequestError):
    """The request's headers are longer than the server reads."""

    status = 431
    code = "headers_too_large"


class QueueFullError(RequestError):
    """More requests wait than the server is configured to hold."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class RequestFailedError(RequestError):
    """This request broke while it ran. Others are not affected."""

    status = 500
    type = "server_error"
    code = "request_failed"


class EngineDeadError(RequestError):
    """The engine loop has ended: nothing more will be computed by this process."""

    status = 500
    type = "server_error"
    code = "engine_dead"


class TooManyConnectionsError(RequestError):
    """The server has as many connections as it may have, and each of them is being served."""

    status = 503
    type = "server_error"
    code = "too_many_connections"


class ShuttingDownError(RequestError):
    """The server finishes what runs and takes nothing new."""

    status = 503
    type = "server_error"
    code = "shutting_down"


class RemoteServerError(MLCServeError):
    """A server that was asked over HTTP has refused or failed, or can't be reached. The text is one line."""


class StartupError(MLCServeError):
    """The server can't start. The text is one line that says what to change."""

    exit_code: ClassVar[int] = EXIT_STARTUP_ERROR


class ConfigError(StartupError):
    """A flag, an --overrides key, or a value of one."""

    exit_code = EXIT_CONFIG_ERROR


class CheckpointError(StartupError):
    """A model directory that is missing, incomplete, inconsistent or of an unknown architecture."""

    exit_code = EXIT_CHECKPOINT_ERROR


class DownloadError(CheckpointError):
    """A model that can't be downloaded now: the hub can't be reached, or the download has broken off."""

    exit_code = EXIT_DOWNLOAD_FAILED


class DeviceError(StartupError):
    """A device that is not there, or that this build of TVM can't drive."""


class CompileError(StartupError):
    """A model that can't be compiled for the device."""


class DamagedArtifactError(StartupError):
    """An entry of the cache is no longer what was put there. It can be made again."""


class DiskFullError(StartupError):
    """There is no room left where something has to be written."""

    exit_code = EXIT_DISK_FULL


class PortInUseError(StartupError):
    """Another process listens on the wanted address."""

    exit_code = EXIT_PORT_IN_USE


class CommandError(StartupError):
    """The program that a supervisor is to run is not there, or can't be run."""


class SupervisionError(MLCServeError):
    """A supervised server has ended for good, is not ready in time, or runs with other settings."""
