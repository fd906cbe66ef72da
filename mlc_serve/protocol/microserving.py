"""Wire types of the microserving calls, as in MLC-LLM.

Each call carries the whole completion request that it is a part of, so that its fields are those of raw
completions. `user` ties the calls of one request together.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from mlc_serve.protocol.fields import Integer, Text
from mlc_serve.protocol.openai import CompletionRequest
from mlc_serve.protocol.refusals import refuse_invalid
from mlc_serve.protocol.replies import Reply
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect

User = Annotated[Text, Field(min_length=1, max_length=512)]


class MicroservingRequest(CompletionRequest):
    """What the calls have in common: a completion request with one prompt, and the id of the request."""

    WITHOUT_EFFECT: ClassVar = {
        name: entry for name, entry in CompletionRequest.WITHOUT_EFFECT.items() if name != "user"
    }

    user: User = Field(description="The id that the calls of one request share; no other request may use it.")

    @model_validator(mode="after")
    def _one_prompt(self) -> MicroservingRequest:
        if len(self.prompt) != 1:
            refuse_invalid("must be a single prompt, a text or token ids", "prompt")
        return self


class PrepRecvRequest(MicroservingRequest):
    """POST /microserving/prep_recv."""

    end: Integer = Field(
        description="Where the part of the prompt ends that another server computes; less than the prompt's "
        "length. -1 leaves only the last token to this server."
    )


class RemoteSendRequest(MicroservingRequest):
    """POST /microserving/remote_send."""

    WITHOUT_EFFECT: ClassVar = {
        **MicroservingRequest.WITHOUT_EFFECT,
        "recv_rank": WithoutEffect("the receiver is found by its address in `kv_addr_info`"),
    }

    begin: Integer = Field(description="`prefix_matched_length` of the reply to `prep_recv`.")
    end: Integer = Field(description="`end` of `prep_recv`.")
    kv_addr_info: Text = Field(description="`kv_append_metadata` of the reply to `prep_recv`.")


class StartGenerateRequest(MicroservingRequest):
    """POST /microserving/start_generate."""

    begin: Integer = Field(
        description="`end` of `prep_recv`. 0 without `prep_recv` is an ordinary completion."
    )


class AbortRequest(RequestPart):
    """POST /microserving/abort."""

    model: Text | None = Field(
        default=None, description="The name of a served model; not needed if there is only one."
    )
    user: User = Field(description="The id of the request.")


class PrepRecvReply(Reply):
    """The first `prefix_matched_length` tokens are here already; `kv_append_metadata` says where the others
    are expected.
    """

    kv_append_metadata: str
    prefix_matched_length: int


class MatchReply(Reply):
    """The first `prefix_matched_length` tokens are in the prefix cache."""

    prefix_matched_length: int


class RemoteSendReply(Reply):
    """The receiver has everything."""


class AbortReply(Reply):
    """`aborted` is false if there was nothing to abort."""

    aborted: bool
