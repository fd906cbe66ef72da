"""PrefixRequestRouter: chooses a replica as `mlc_serve router` chooses a server."""

from __future__ import annotations

from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, ReplicaResult, RequestRouter, RunningReplica

from mlc_serve.ray.call import Call
from mlc_serve.ray.ranking import Ranking


class PrefixRequestRouter(RequestRouter):
    """Prefers replicas that have a request's prefix cached and little to do. Requests of other deployments
    than ours, which are no Calls, are placed by load alone.
    """

    def initialize_state(self, **_: Any) -> None:
        """Prepare what is known about the replicas."""
        self._ranking = Ranking()

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take over the present replicas, and what they tell about themselves."""
        self._ranking.update({_name(replica.replica_id): replica.routing_stats or {} for replica in replicas})
        super().update_replicas(replicas)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas, each in a rank of its own: Serve takes the first one that has room."""
        by_name = {_name(replica.replica_id): replica for replica in candidate_replicas}
        call = _call(pending_request)
        if call is not None and call.holder in by_name:
            return [[by_name[call.holder]]]
        known = self.replica_queue_len_cache
        loads = {name: known.get(replica.replica_id) for name, replica in by_name.items()}
        pages = () if call is None else call.prompt.pages
        ranked = self._ranking.ranked(loads, pages)
        # A replica that has failed may still be among them, and would be the best again.
        start = 0 if call is None else call.num_lost % max(1, len(ranked))
        return [[by_name[name]] for name in ranked[start:] + ranked[:start]]

    def on_request_routed(
        self,
        pending_request: PendingRequest,
        replica_id: ReplicaID,
        result: ReplicaResult,  # noqa: ARG002 - the interface's
    ) -> None:
        """Note where a request went."""
        call = _call(pending_request)
        self._ranking.routed(_name(replica_id), () if call is None else call.prompt.pages)


def _name(replica: ReplicaID) -> str:
    """Return a replica's name for us, which it also has in the header X-Routed-To."""
    name: str = replica.unique_id
    return name


def _call(request: PendingRequest | None) -> Call | None:
    argument = request.args[0] if request is not None and request.args else None
    return argument if isinstance(argument, Call) else None
