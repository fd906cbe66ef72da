"""A fake server process for tests of the supervisor. It starts fast, because it imports little.

    python -I -S fake_child.py MODE [flags of `mlc_serve serve`]

Python may lose a SIGINT that arrives while it imports this, before the handler is in place. So a test that
sends one by itself has to wait for the first line on stderr.

A mode is some of these words, joined by commas. With any other word it serves GET /v1/models until SIGINT: on
the socket that it inherits, or else on --port.

    exit=N            ends with this code at once
    never-ready       never listens
    unauthorized      answers 401
    floods            prints 4 MB of numbered lines to either stream before it serves
    ignores-sigint    needs to be killed
    family=FILE       starts two children, one in a session of its own, and writes their ids to a file
    slow-end          takes long to end after SIGINT
    takes-port        reports, in Uvicorn's words, that --port is in use if its number is even
    fails=FILE        ends with code 70 while the file is there
    sick=FILE         answers GET /health with 503 while the file is there
    hidden            does not answer while a file named `hide` is in the working directory
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

MODES = dict(entry.partition("=")[::2] for entry in sys.argv[1].split(","))
PORT = next(int(word.partition("=")[2]) for word in sys.argv if word.startswith("--port="))
FLOOD = b"x" * 200 + b"\n"
PAUSE = "import time; time.sleep(600)"


def main() -> None:
    """Do what the modes say."""
    if "ignores-sigint" in MODES:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGINT, leave)
    supervisor = os.environ.get("MLC_SERVE_SUPERVISOR")
    sys.stderr.write(f"fake child {os.getpid()} on {PORT}, supervisor {supervisor}\n")
    if "family" in MODES:
        start_family(Path(MODES["family"]))
    if "exit" in MODES:
        sys.exit(int(MODES["exit"]))
    if "fails" in MODES and Path(MODES["fails"]).exists():
        sys.exit(70)
    if "takes-port" in MODES and PORT % 2 == 0:
        sys.exit("[Errno 98] error while attempting to bind on address: address already in use")
    if "floods" in MODES:
        for number in range(20_000):
            os.write(1, b"%d %s" % (number, FLOOD))
            os.write(2, b"%d %s" % (number, FLOOD))
    if "never-ready" in MODES:
        time.sleep(600)
    serve()


def leave(*_: object) -> None:
    """End as the server does on SIGINT."""
    if "slow-end" in MODES:
        os.write(2, b"slow to end\n")
        time.sleep(600)
    os._exit(0)


def start_family(file: Path) -> None:
    """Start two children, the second of which leaves the process group."""
    children = [
        subprocess.Popen([sys.executable, "-I", "-S", "-c", PAUSE], start_new_session=alone)
        for alone in (False, True)
    ]
    part = file.with_suffix(".part")
    part.write_text(" ".join(str(child.pid) for child in children))
    part.rename(file)


def own_socket() -> socket.socket:
    """The socket that was inherited, or one that is bound to the port."""
    inherited = os.environ.get("MLC_SERVE_SOCKET")
    if inherited:
        return socket.socket(fileno=int(inherited))
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", PORT))
    return sock


def serve() -> None:
    """Answer every request, one connection at a time."""
    status = "401 Unauthorized" if "unauthorized" in MODES else "200 OK"
    with own_socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.listen()
        os.write(1, b"Serving on socket %d\n" % os.fstat(listener.fileno()).st_ino)
        while True:
            connection, _ = listener.accept()
            with connection:
                request = connection.recv(65536)
                is_sick = "sick" in MODES and Path(MODES["sick"]).exists()
                if is_sick and request.startswith(b"GET /health "):
                    status = "503 Service Unavailable"
                if not ("hidden" in MODES and Path("hide").exists()):
                    connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())


if __name__ == "__main__":
    main()
