"""A server in a process of its own, to be killed while it answers. It starts fast, because it imports little.

    python -I -S killed_server.py PORT

It prints a line when it listens, and another one when it has begun to answer. A streamed reply stops after
two events, and any other reply never comes.
"""

import socket
import sys
import threading

STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n"
)


def main() -> None:
    """Serve until the end."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket) -> None:
    """Answer the requests of one connection."""
    while request := connection.recv(65536):
        if request.startswith(b"GET"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            continue
        if b'"stream"' in request:
            connection.sendall(STREAM)
        sys.stdout.write("answering\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
