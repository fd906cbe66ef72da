"""Memory that two processes on one machine share: slots that the sender fills and the receiver empties.

The receiver makes it, so that it is the receiver's own memory that is bounded, and passes a descriptor over a
Unix socket. The memory has no name, and ends with the processes. Its size is sealed, because a process that
touches memory which another one has cut off is killed. Only Linux has this.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys

from mlc_serve.errors import KVTransferError

if sys.platform != "win32":
    import fcntl

IS_AVAILABLE = sys.platform == "linux"


def socket_name(instance: str) -> str:
    """Return the name of a receiver's Unix socket. It is not in the file system, so nothing is left over."""
    return f"\0mlc_serve-kv-{instance}"


def slots_of(memory: memoryview, slot_bytes: int) -> list[memoryview]:
    """Return the slots of shared memory, each with room for a portion."""
    return [memory[start : start + slot_bytes] for start in range(0, len(memory), slot_bytes)]


def share(sock: socket.socket, num_bytes: int) -> memoryview:
    """Make memory, pass it to the process at the other end of a Unix socket, and return it.

    Raises OSError if there is none left.
    """
    descriptor = os.memfd_create("mlc_serve-kv", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, num_bytes)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        memory = mmap.mmap(descriptor, num_bytes)
        socket.send_fds(sock, [b"M"], [descriptor])
    finally:
        os.close(descriptor)
    return memoryview(memory)


def shared(sock: socket.socket, num_bytes: int) -> memoryview:
    """Return the memory that the process at the other end has passed, which is there to be received.

    Raises KVTransferError if it is not what `share` makes.
    """
    descriptors: list[int] = []
    try:
        _, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
        if not descriptors:
            raise KVTransferError("The receiver has passed no shared memory.")
        _require_sealed(descriptors[0], num_bytes)
        return memoryview(mmap.mmap(descriptors[0], num_bytes))
    except OSError as error:
        raise KVTransferError(f"The receiver's shared memory can't be used: {error}.") from None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _require_sealed(descriptor: int, num_bytes: int) -> None:
    is_sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    if not is_sealed or os.fstat(descriptor).st_size < num_bytes:
        raise KVTransferError("The receiver's shared memory is too small, or could shrink.")
