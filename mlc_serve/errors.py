"""Every exception that mlc_serve raises on purpose.

    MLCServeError
    ├── RequestError              one client's request is wrong, or can't be served now
    │   ├── InvalidRequestError     400  a field is malformed, out of range or contradictory
    │   ├── UnsupportedFieldError   400  a field asks for something that this server can't do
    │   ├── ContextLengthError      400  the prompt can never fit
    │   ├── PreviousResponseNotFoundError  400
    │   ├── AuthenticationError     401
    │   ├── ClientCertificateError  401  the connection has no client certificate
    │   ├── ModelNotFoundError      404
    │   ├── UnknownPathError        404
    │   ├── ResponseNotFoundError   404  a response that is not stored, or no longer
    │   ├── ParkedRequestNotFoundError  404  microserving: no call has prepared this request
    │   ├── MethodNotAllowedError   405
    │   ├── ReaderTooSlowError      408  a stream was not read while it was written
    │   ├── ParkedRequestConflictError  409  microserving: the calls come in the wrong order
    │   ├── ParkedRequestGoneError  410  microserving: the request has expired or was aborted
    │   ├── BodyTooLargeError       413
    │   ├── QueueFullError          429  retry later
    │   ├── RequestFailedError      500  this request failed while it ran; others go on
    │   ├── EngineDeadError         500  the engine loop has ended; nothing more is computed
    │   ├── RoutingError            503  a router can't have the request answered
    │   │   ├── ServerLostError       502  the server went away before its reply was complete
    │   │   └── NoServerError         503  no server can take the request now
    │   ├── ShuttingDownError       503  the server is shutting down
    │   ├── KVCacheFullError        503  microserving: there is no room for a prefix from another server
    │   ├── KVTransferError         503  microserving: the other server did not take part as it should
    │   ├── FirstTokenTimeoutError  504  --first-token-timeout has passed
    │   └── GenerationTimeoutError  504  --request-timeout has passed
    ├── RemoteServerError         another server refuses a request, fails, or can't be reached
    ├── StartupError              the server can't start; its text is the one line that the user sees
    │   ├── ConfigError             a flag, an --overrides key or a value
    │   ├── CheckpointError         a model directory, its files or its download
    │   │   └── DownloadError         a download that may succeed later
    │   ├── DeviceError             a device that doesn't exist
    │   ├── CompileError            a model that can't be compiled
    │   ├── DamagedArtifactError    an entry of the cache has changed since it was written
    │   ├── DiskFullError           a disk is full
    │   ├── PortInUseError          the address is taken
    │   └── CommandError            a supervisor can't run the server's program
    └── SupervisionError          a supervised server is not available, or not yet

Request errors have the HTTP status and the fields of OpenAI's error object, but nothing else here knows about
HTTP. Start-up errors have the exit code of the process that they end.
"""

from __future__ import annotations

from typing import ClassVar

# The exit codes of the command line, which a shell or a supervisor reads when the process has ended. Those
# from 64 to 78 have the meaning that sysexits.h gives them.
EXIT_OK = 0
# Something is missing that may be there the next time: a device, a tool, a directory to write to.
EXIT_STARTUP_ERROR = 1
# A flag, a key or a value is wrong, so that the same command line will always fail. argparse uses this
# number.
EXIT_CONFIG_ERROR = 2
# The model can't be used: its directory or a file in it is missing or wrong. This will always fail, too.
EXIT_CHECKPOINT_ERROR = 65
# The model could not be downloaded, which may succeed later.
EXIT_DOWNLOAD_FAILED = 69
# An engine died, and the process's supervisor should restart it.
EXIT_ENGINE_DEAD = 70
# A disk is full.
EXIT_DISK_FULL = 74
# Another process uses the address; another port will work.
EXIT_PORT_IN_USE = 75
# What shells report for SIGINT and SIGTERM.
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class MLCServeError(Exception):
    """Base of all errors raised by mlc_serve."""


class RequestError(MLCServeError):
    """A request is refused or has failed.

    `param` is the path of the invalid field (`messages.0.content`).
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
    """A field asks for something that this server can't do."""

    code = "unsupported"


class ContextLengthError(RequestError):
    """The prompt is too long for the server, so waiting does not help."""

    code = "context_length_exceeded"

    @classmethod
    def of_prompt(cls, length: str, limit: int, param: str) -> ContextLengthError:
        """Return the error for a prompt of this length. `limit` counts the tokens of prompt and output.

        Clients recognize this error by the words "maximum context length", or by its code.
        """
        return cls(
            f"This model's maximum context length is {limit} tokens, one of which has to be left for the "
            f"output; the prompt has {length}.",
            param,
        )

    @classmethod
    def of_input(cls, length: str, limit: int, param: str) -> ContextLengthError:
        """Return the error for an input of an embedding model. All of `limit` may be used."""
        return cls(
            f"This model's maximum context length is {limit} tokens; {param} has {length}. Shorten it, or "
            "send truncate_prompt_tokens: -1.",
            param,
        )


class PreviousResponseNotFoundError(RequestError):
    """The response that a request continues is not stored, or no longer."""

    code = "previous_response_not_found"


class AuthenticationError(RequestError):
    """The API key is missing or wrong."""

    status = 401
    code = "invalid_api_key"


class ClientCertificateError(RequestError):
    """The connection has no client certificate, but needs one."""

    status = 401
    code = "client_certificate_needed"


class ModelNotFoundError(RequestError):
    """No engine serves the model that the request names."""

    status = 404
    code = "model_not_found"


class UnknownPathError(RequestError):
    """The server has nothing at this path."""

    status = 404
    code = "unknown_path"


class ResponseNotFoundError(RequestError):
    """The response that a path names is not stored, or no longer."""

    status = 404
    code = "response_not_found"


class ParkedRequestNotFoundError(RequestError):
    """No call to this server has prepared the request that a microserving call names."""

    status = 404
    code = "parked_request_not_found"


class MethodNotAllowedError(RequestError):
    """The path is known, but not with this HTTP method."""

    status = 405
    code = "method_not_allowed"


class RequestTimeoutError(RequestError):
    """The request did not arrive within the time that the server gives it."""

    status = 408
    code = "request_timeout"


class ReaderTooSlowError(RequestError):
    """The client reads a stream so slowly that more of it waits than the server keeps."""

    status = 408
    code = "reader_too_slow"


class ParkedRequestConflictError(RequestError):
    """A microserving call comes too early, too late, or with another prompt than the one before it."""

    status = 409
    code = "parked_request_conflict"


class ParkedRequestGoneError(RequestError):
    """The request that a microserving call names has expired or was aborted, or the server was restarted."""

    status = 410
    code = "parked_request_gone"


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
    """This request failed while it ran. Others are not affected."""

    status = 500
    type = "server_error"
    code = "request_failed"


class EngineDeadError(RequestError):
    """The engine loop has ended: nothing more will be computed by this process."""

    status = 500
    type = "server_error"
    code = "engine_dead"


class RoutingError(RequestError):
    """A router can't have a request answered by any of its servers."""

    status = 503
    type = "server_error"


class ServerLostError(RoutingError):
    """The server behind the router went away, or broke HTTP's rules, before its reply was complete.

    `was_sent` says whether it may have received the request.
    """

    status = 502
    code = "server_lost"

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class NoServerError(RoutingError):
    """No server behind the router can take the request now."""

    code = "no_server_available"


class TooManyConnectionsError(RequestError):
    """The server has as many connections as it may have, and each of them has a request in progress."""

    status = 503
    type = "server_error"
    code = "too_many_connections"


class ShuttingDownError(RequestError):
    """The server finishes running requests and accepts no new ones."""

    status = 503
    type = "server_error"
    code = "shutting_down"


class KVCacheFullError(RequestError):
    """The KV cache has no room for a prefix that another server should send, or has lost it to requests."""

    status = 503
    type = "server_error"
    code = "kv_cache_full"


class KVTransferError(RequestError):
    """A prefix could not be moved: the other server can't be reached, is too slow, or sends what it should
    not.
    """

    status = 503
    type = "server_error"
    code = "kv_transfer_failed"


class FirstTokenTimeoutError(RequestError):
    """The request has waited too long for its first token. The server has more work than it can do."""

    status = 504
    type = "server_error"
    code = "first_token_timeout"


class GenerationTimeoutError(RequestError):
    """The reply was not finished in the time that the server gives a request."""

    status = 504
    type = "server_error"
    code = "generation_timeout"


class RemoteServerError(MLCServeError):
    """Another server has refused a request, has failed, or can't be reached. The text is one line."""


class StartupError(MLCServeError):
    """The server can't start. The text is one line that says what to change."""

    exit_code: ClassVar[int] = EXIT_STARTUP_ERROR


class ConfigError(StartupError):
    """A flag, an --overrides key, or a value is wrong."""

    exit_code = EXIT_CONFIG_ERROR


class CheckpointError(StartupError):
    """A model directory is missing, incomplete, inconsistent or of an unknown architecture."""

    exit_code = EXIT_CHECKPOINT_ERROR


class DownloadError(CheckpointError):
    """A model can't be downloaded now: the hub can't be reached, or the download was interrupted."""

    exit_code = EXIT_DOWNLOAD_FAILED


class DeviceError(StartupError):
    """A device doesn't exist, or this build of TVM can't use it."""


class CompileError(StartupError):
    """The model can't be compiled for the device."""


class DamagedArtifactError(StartupError):
    """An entry of the cache has changed since it was written. It can be made again."""


class DiskFullError(StartupError):
    """The disk that something has to be written to is full."""

    exit_code = EXIT_DISK_FULL


class PortInUseError(StartupError):
    """Another process listens on the wanted address."""

    exit_code = EXIT_PORT_IN_USE


class CommandError(StartupError):
    """The program that a supervisor should run does not exist or can't be run."""


class SupervisionError(MLCServeError):
    """A supervised server has ended permanently, is not ready in time, or runs with other settings."""
