"""HandleReplicas: the replicas behind one of Serve's handles."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from mlc_serve.errors import QueueFullError, ServerLostError
from mlc_serve.ray.call import Call, Parts


class HandleReplicas:
    """Implements front.Replicas."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle.options(method_name="answer", stream=True)

    async def answer(self, call: Call) -> AsyncGenerator[Parts, None]:
        """See Replicas.answer."""
        # A handle that streams returns this.
        response = cast("DeploymentResponseGenerator", self._handle.remote(call))
        try:
            async for parts in response:
                yield parts
        except BackPressureError as error:
            raise QueueFullError(
                "All replicas have as many requests as they can take; try again later."
            ) from error
        except (RayError, RayServeException) as error:
            raise ServerLostError("The replica that was to answer has failed.") from error
        finally:
            response.cancel()
