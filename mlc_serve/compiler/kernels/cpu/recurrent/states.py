"""Reads and writes the states of a batch's sequences, which TVM's recurrent state keeps in slots.

A slot holds the state after each of the last few forward passes, in a ring.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from mlc_serve.compiler.kernels.cpu.primitives.lanes import lanes


def get_states(shape: tuple[int, ...]) -> tirx.PrimFunc:
    """Slots `(n, h, *shape)` float32, and int32 `(b,)` the slot of each sequence and the place of its newest
    state -> the newest states `(b, *shape)`.
    """

    @T.macro
    def read(kept, states, slot, place, b, i):
        states[b, i] = kept[slot, place, i]

    return _each_value(shape, read)


def set_states(shape: tuple[int, ...]) -> tirx.PrimFunc:
    """Write states `(b, *shape)` to the places after the newest ones; else as `get_states`."""

    @T.macro
    def write(kept, states, slot, place, b, i):
        kept[slot, (place + 1) % T.Cast("int32", kept.shape[1]), i] = states[b, i]

    return _each_value(shape, write)


def _each_value(shape: tuple[int, ...], copy: Any) -> tirx.PrimFunc:
    """The kernel that calls the macro `copy(kept, states, slot, place, b, i)` for each value i of each
    sequence b. It passes the slots as `kept` `(n, h, size)`, and the states as `(b, size)`.
    """
    size = prod(shape)
    step = lanes(size)

    @T.prim_func(s_tir=True, private=True)
    def copy_states(slots: T.handle, slot_ids: T.handle, places: T.handle, states: T.handle):
        T.func_attr({"tirx.noalias": True})
        num_slots, history, batch = T.int64(), T.int64(), T.int64()
        S = T.match_buffer(slots, (num_slots, history, *shape), "float32")
        I = T.match_buffer(slot_ids, (batch,), "int32", offset_factor=1)
        P = T.match_buffer(places, (batch,), "int32", offset_factor=1)
        X = T.match_buffer(states, (batch, *shape), "float32")
        kept = T.decl_buffer((num_slots, history, size), "float32", data=S.data)
        flat = T.decl_buffer((batch, size), "float32", data=X.data)
        with T.sblock("root"):
            for b in T.parallel(batch):
                for i in T.serial(size // step):
                    for lane in T.vectorized(step):
                        copy(kept, flat, I[b], P[b], b, i * step + lane)

    return copy_states
