"""The settings of the HTTP server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlc_serve.config.option import Kind, Spelling, check_options, option
from mlc_serve.errors import ConfigError

_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
# The first parts of the server's own paths. One that is also a prefix could mean either.
OWN_PATHS = frozenset(
    {
        "v1",
        "health",
        "ready",
        "metrics",
        "debug",
        "ui",
        "docs",
        "openapi.json",
        "tokenize",
        "detokenize",
        "apply-template",
        "tokenizer_info",
        "rerank",
        "v2",
        "score",
        "microserving",
    }
)


@dataclass(frozen=True)
class ServerConfig:
    """The settings of the HTTP server. Raises ConfigError if a value is out of range.

    Times are in seconds. Without `api_keys` clients need no key.
    """

    host: str = option("127.0.0.1", "Address to listen on.", flags=("--host",))
    port: int = option(
        8000,
        "Port to listen on; 0 chooses any free one.",
        kind=Kind.INTEGER,
        minimum=0,
        maximum=65535,
        flags=("--port",),
    )
    allowed_hosts: Sequence[str] = option(
        (),
        "Names allowed in the Host header besides localhost, IP addresses and --host: a JSON list. By "
        'default, other names are refused only if --host is a loopback address; ["*"] allows all.',
        kind=Kind.TEXTS,
        flags=("--allowed-hosts",),
    )
    allow_credentials: bool = option(
        False,
        "CORS: let browsers send credentials. Needs a list of --allow-origins.",
        kind=Kind.BOOLEAN,
        flags=("--allow-credentials", "--allowed-credentials"),
    )
    allow_origins: Sequence[str] = option(
        ("*",),
        "CORS: allowed origins, a JSON list.",
        kind=Kind.TEXTS,
        flags=("--allow-origins", "--allowed-origins"),
    )
    allow_methods: Sequence[str] = option(
        ("*",),
        "CORS: allowed methods, a JSON list.",
        kind=Kind.TEXTS,
        flags=("--allow-methods", "--allowed-methods"),
    )
    allow_headers: Sequence[str] = option(
        ("*",),
        "CORS: allowed headers, a JSON list.",
        kind=Kind.TEXTS,
        flags=("--allow-headers", "--allowed-headers"),
    )
    api_keys: Sequence[str] = option(
        (),
        "Key that clients must send as a bearer token or in X-Api-Key; may be given several times. Keys "
        "are also read from the environment variable MLC_SERVE_API_KEY, which other users of the machine "
        "can't see; they are separated by line breaks or commas there.",
        kind=Kind.TEXTS,
        flags=("--api-key",),
        spelling=Spelling.REPEATED,
    )
    api_key_file: str | None = option(
        None,
        "File with further keys, one per line; it is read once, at the start.",
        flags=("--api-key-file",),
    )
    admin_api_key: str | None = option(
        None,
        "Key that /debug/* needs instead of the other keys; it opens all other paths, too. It is better "
        "taken from the environment variable MLC_SERVE_ADMIN_API_KEY or a file.",
        flags=("--admin-api-key",),
    )
    admin_api_key_file: str | None = option(
        None,
        "File whose first line is the admin key; it is read once, at the start.",
        flags=("--admin-api-key-file",),
    )
    ssl_certfile: str | None = option(
        None,
        "Serve HTTPS instead of HTTP, with the certificate in this PEM file, followed by those of the "
        "authorities between it and the root.",
        flags=("--ssl-certfile",),
    )
    ssl_keyfile: str | None = option(
        None,
        "PEM file with the certificate's private key. Default: the key is in --ssl-certfile, too.",
        flags=("--ssl-keyfile",),
    )
    ssl_keyfile_password_file: str | None = option(
        None,
        "File whose first line is the password of the private key. Default: the environment variable "
        "MLC_SERVE_SSL_KEYFILE_PASSWORD.",
        flags=("--ssl-keyfile-password-file",),
    )
    ssl_ca_certs: str | None = option(
        None,
        "PEM file with the authorities that sign the certificates of clients. With it, every path but the "
        "probes needs such a certificate.",
        flags=("--ssl-ca-certs",),
    )
    served_model_name: Sequence[str] = option(
        (),
        "Name of the model for clients, and any aliases that requests may use as well; MODEL must come "
        "before them. Default: MODEL as it was given.",
        kind=Kind.TEXTS,
        flags=("--served-model-name",),
        spelling=Spelling.MANY,
    )
    root_path: str | None = option(
        None,
        "Prefix of the paths under which a proxy publishes this server, such as /llm. Requests may come with "
        "or without it.",
        flags=("--root-path",),
    )
    enable_ui: bool = option(
        True,
        "Serve the web page at /, with a chat and the engine's status. --no-ui turns it off.",
        kind=Kind.BOOLEAN,
        flags=("--no-ui",),
    )
    enable_debug: bool = option(
        False,
        "Serve /debug/* and accept `debug_config` in requests.",
        kind=Kind.BOOLEAN,
        flags=("--enable-debug",),
    )
    public_metrics: bool = option(
        False,
        "Answer /metrics without an API key, for scrapers that send none.",
        kind=Kind.BOOLEAN,
        flags=("--public-metrics",),
    )
    vllm_metrics: bool = option(
        False,
        "Report the engines' metrics also under vLLM's names.",
        kind=Kind.BOOLEAN,
        flags=("--vllm-metrics",),
    )
    max_header_bytes: int = option(
        64 * 1024,
        "Longest headers of a request in bytes; longer ones are refused with status 431.",
        kind=Kind.INTEGER,
        minimum=1024,
        flags=("--max-header-bytes",),
    )
    header_timeout: float = option(
        30.0,
        "Seconds in which the headers of a request must arrive.",
        kind=Kind.NUMBER,
        minimum=0.1,
        flags=("--header-timeout",),
    )
    body_timeout: float = option(
        120.0,
        "Seconds in which the body of a request must arrive.",
        kind=Kind.NUMBER,
        minimum=0.1,
        flags=("--body-timeout",),
    )
    idle_timeout: int = option(
        75,
        "Seconds that a connection may stay open without a request. Longer than the 60 seconds of common "
        "proxies, so that they close first.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--idle-timeout",),
    )
    max_connections: int | None = option(
        None,
        "Most connections at a time. A further one replaces the connection that has waited longest for its "
        "client; if all have running requests, it is refused with status 503. Default: 1024, or fewer if the "
        "process may not open as many files.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--max-connections",),
    )
    max_body_bytes: int = option(
        4 * 1024 * 1024,
        "Longest request body in bytes; longer ones are refused with status 413. Parsing a body may delay "
        "other requests by 10 ms per MiB.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--max-body-bytes",),
    )
    max_body_elements: int = option(
        300_000,
        "Most elements in a request body, where a list or an object counts as ten.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--max-body-elements",),
    )
    max_body_depth: int = option(
        100,
        "How deep lists and objects may nest in a request body.",
        kind=Kind.INTEGER,
        minimum=10,
        maximum=200,
        flags=("--max-body-depth",),
    )
    strict_requests: bool = option(
        False,
        "Refuse request fields that are unknown, instead of ignoring them.",
        kind=Kind.BOOLEAN,
        flags=("--strict-requests",),
    )
    max_stored_responses: int = option(
        1000,
        "Most responses of /v1/responses that are kept in memory, so that later requests can continue them; "
        "those that were used least recently make room. 0 keeps none.",
        kind=Kind.INTEGER,
        minimum=0,
        flags=("--max-stored-responses",),
    )
    max_stored_response_bytes: int = option(
        64 * 1024 * 1024,
        "Most bytes that the stored responses and their conversations take.",
        kind=Kind.INTEGER,
        minimum=0,
        flags=("--max-stored-response-bytes",),
    )
    kv_transfer_host: str = option(
        "127.0.0.1",
        "Address of this machine at which other servers reach this one to send keys and values. By default "
        "they are exchanged with servers on the same machine only, in both directions.",
        flags=("--kv-transfer-host",),
    )
    kv_transfer_port: int = option(
        0,
        "Port for keys and values from other servers, which is opened when the first are expected; 0 chooses "
        "any free one.",
        kind=Kind.INTEGER,
        minimum=0,
        maximum=65535,
        flags=("--kv-transfer-port",),
    )
    shutdown_timeout: float = option(
        30.0,
        "Seconds that running requests get to finish after SIGINT or SIGTERM.",
        kind=Kind.NUMBER,
        minimum=0,
        flags=("--shutdown-timeout",),
    )
    send_timeout: float = option(
        30.0,
        "Seconds that a client may leave a reply unread before its request is ended.",
        kind=Kind.NUMBER,
        minimum=0.1,
        flags=("--send-timeout",),
    )
    watchdog_timeout: float = option(
        300.0,
        "Seconds that a step of the engine may take before /health reports it stuck.",
        kind=Kind.NUMBER,
        minimum=1,
        flags=("--watchdog-timeout",),
    )
    loop_warning: float = option(
        1.0,
        "Seconds for which one callback may hold the event loop before its stack is logged. Holds are "
        "measured to within a twentieth of this.",
        kind=Kind.NUMBER,
        minimum=0.05,
        flags=("--loop-warning",),
    )
    log_level: str = option(
        "info",
        "Lowest severity of messages to log.",
        flags=("--log-level",),
        choices=("debug", "info", "warning", "error", "critical"),
    )
    otlp_traces_endpoint: str | None = option(
        None,
        "Send a trace of each request that generates to an OpenTelemetry collector, such as "
        "http://127.0.0.1:4318/v1/traces. Needs `pip install mlc_serve[otel]`.",
        flags=("--otlp-traces-endpoint",),
    )
    log_format: str = option(
        "text",
        "Form of the log on stderr: lines of text, or a JSON object in each line.",
        flags=("--log-format",),
        choices=("text", "json"),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if any("\n" in key for key in self.api_keys):
            raise ConfigError("api_keys: a key with a line break can't be sent in a header")
        if "\n" in (self.admin_api_key or ""):
            raise ConfigError("admin_api_key: a key with a line break can't be sent in a header")
        without_certificate = self.ssl_certfile is None
        for name in ("ssl_keyfile", "ssl_keyfile_password_file", "ssl_ca_certs"):
            if without_certificate and getattr(self, name) is not None:
                raise ConfigError(f"{name} has no effect without a certificate: set ssl_certfile, too")
        if not (self.otlp_traces_endpoint or "http://").startswith(("http://", "https://")):
            raise ConfigError(
                f"otlp_traces_endpoint is {self.otlp_traces_endpoint!r}: expected an address such as "
                "http://127.0.0.1:4318/v1/traces"
            )
        if self.kv_transfer_host in ("0.0.0.0", "::", "*"):  # noqa: S104 - refused
            raise ConfigError(
                f"kv_transfer_host is {self.kv_transfer_host!r}: expected an address that other servers can "
                "connect to"
            )
        if self.root_path is not None:
            _check_root_path(self.root_path)
        if self.allow_credentials and "*" in self.allow_origins:
            raise ConfigError(
                "allow_credentials would let every web page act on its visitors' behalf: "
                "set allow_origins to the origins that may"
            )

    @property
    def scheme(self) -> str:
        """The scheme of the server's addresses, http or https."""
        return "http" if self.ssl_certfile is None else "https"


def _check_root_path(prefix: str) -> None:
    if not _ROOT_PATH.fullmatch(prefix):
        raise ConfigError(
            f"root_path is {prefix!r}: expected a path such as /llm, with a slash before each part only"
        )
    first = prefix.split("/")[1]
    if first in OWN_PATHS:
        raise ConfigError(f"root_path is {prefix!r}, but paths of this server begin with /{first}, too")
