"""Wire types of embeddings, of reranking and of scores, as OpenAI, Cohere, Jina and vLLM have them.

The checks here need no model. What depends on one, such as lengths, is checked by frontend.embedding_inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from mlc_serve.protocol.fields import AsInteger, Text, are_token_ids
from mlc_serve.protocol.refusals import refuse_invalid
from mlc_serve.protocol.replies import Reply
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect

MAX_INPUTS = 2048

EmbeddingInput = str | list[int]


def _as_inputs(value: object) -> list[EmbeddingInput]:
    """Convert one input or several, each text or token ids, to a list of inputs."""
    if isinstance(value, str):
        return [_as_input(value, "must not be empty")]
    if not isinstance(value, list | tuple) or not value:
        refuse_invalid("must be a string, token ids, or a list of either, and not empty")
    if are_token_ids(value):
        return [list(value)]
    _check_number(value)
    return [_as_input(entry, f"input {i} must not be empty", i) for i, entry in enumerate(value)]


def _as_input(value: object, empty: str, position: int = 0) -> EmbeddingInput:
    if isinstance(value, str):
        return value or refuse_invalid(empty)
    if not isinstance(value, list | tuple):
        refuse_invalid(f"input {position} is neither a string nor a list of token ids")
    if not value:
        refuse_invalid(empty)
    if not are_token_ids(value):
        refuse_invalid(f"input {position} is neither a string nor a list of token ids")
    return list(value)


def _check_number(values: list[Any] | tuple[Any, ...]) -> None:
    if len(values) > MAX_INPUTS:
        refuse_invalid(f"has {len(values)} entries; at most {MAX_INPUTS} are allowed in one request")


def _as_documents(value: object) -> list[str]:
    """Convert documents, each a text or an object with a text, to texts."""
    if not isinstance(value, list | tuple) or not value:
        refuse_invalid("must be a list of texts, and not empty")
    _check_number(value)
    return [_as_document(entry, i) for i, entry in enumerate(value)]


def _as_document(value: object, position: int) -> str:
    text = value.get("text") if isinstance(value, Mapping) else value
    if not isinstance(text, str) or not text:
        refuse_invalid(f"document {position} must be a text or an object with a `text`, and not empty")
    return text


def _as_texts(value: object) -> list[str]:
    """Convert one text or several to a list."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values:
        refuse_invalid("must be a text or a list of texts, and not empty")
    _check_number(values)
    for i, text in enumerate(values):
        if not isinstance(text, str) or not text:
            refuse_invalid(f"text {i} must be a text, and not empty")
    return list(values)


Inputs = Annotated[
    list[EmbeddingInput],
    BeforeValidator(_as_inputs, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]
Documents = Annotated[
    list[str],
    BeforeValidator(_as_documents, json_schema_input_type=list[str] | list[dict[str, str]]),
]
Texts = Annotated[list[str], BeforeValidator(_as_texts, json_schema_input_type=str | list[str])]


class EmbedderRequest(RequestPart):
    """The fields that all requests to an embedding model share."""

    WITHOUT_EFFECT: ClassVar = {
        "user": WithoutEffect(
            "the server does not distinguish end users; it identifies requests by its own ids"
        ),
        "request_id": WithoutEffect("a request's id is sent in the header X-Request-Id"),
        "priority": WithoutEffect("clients can't choose the order in which requests are served"),
        "add_special_tokens": WithoutEffect(
            "the model's special tokens are always added to a text", only=(True,)
        ),
    }

    model: Text | None = Field(
        default=None, description="The name of a served model; not needed if only one makes embeddings."
    )
    truncation: bool = Field(
        default=False, description="Shorten inputs that are too long for the model, instead of refusing them."
    )
    truncate_prompt_tokens: Annotated[int, Field(ge=-1), AsInteger] | None = Field(
        default=None,
        description="Shorten inputs to this many tokens, by cutting off their ends; -1 means what the model "
        "takes.",
    )

    @property
    def truncates_to(self) -> int | None:
        """The most tokens that an input is shortened to, -1 for what the model takes; None shortens none."""
        if self.truncate_prompt_tokens is not None:
            return self.truncate_prompt_tokens
        return -1 if self.truncation else None

    @model_validator(mode="after")
    def _something_is_left(self) -> EmbedderRequest:
        if self.truncate_prompt_tokens == 0:
            refuse_invalid("must be -1 or at least 1", "truncate_prompt_tokens")
        return self


class EmbeddingRequest(EmbedderRequest):
    """POST /v1/embeddings."""

    input: Inputs = Field(
        description=f"A text, token ids, or a list of up to {MAX_INPUTS} of either. Token ids are used as "
        "they are.",
    )
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="`base64` is that of little-endian float32 numbers."
    )
    dimensions: Annotated[int, Field(ge=1), AsInteger] | None = Field(
        default=None,
        description="Keep this many values of each vector, which is then scaled to length 1. At most as many "
        "as the model gives, which is the default.",
    )

    @property
    def num_inputs(self) -> int:
        """The number of inputs that are embedded."""
        return len(self.input)


class RerankRequest(EmbedderRequest):
    """POST /v1/rerank, as Jina and Cohere have it."""

    query: Annotated[Text, Field(min_length=1)] = Field(
        description="The text that documents are compared with."
    )
    documents: Documents = Field(
        description=f"Up to {MAX_INPUTS} texts, or objects with a `text`; their other keys are ignored."
    )
    top_n: Annotated[int, Field(ge=1), AsInteger] | None = Field(
        default=None, description="Return this many of the best documents; by default all."
    )
    return_documents: bool = Field(default=True, description="Whether results contain the documents' texts.")
    max_tokens_per_doc: Annotated[int, Field(ge=1), AsInteger] | None = Field(
        default=None, description="Cohere's name for `truncate_prompt_tokens`."
    )

    @property
    def truncates_to(self) -> int | None:
        """See EmbedderRequest."""
        own = super().truncates_to
        return self.max_tokens_per_doc if own is None else own

    @property
    def num_inputs(self) -> int:
        """The number of inputs that are embedded."""
        return len(self.documents) + 1


class ScoreRequest(EmbedderRequest):
    """POST /v1/score, as vLLM has it. Each text of one list is compared with the text at the same position of
    the other; a single text is compared with all of the other list.
    """

    text_1: Texts = Field(description="A text, or a list of texts. Also called `queries`.")
    text_2: Texts = Field(
        description="A text, or as many texts as `text_1`. Also called `items`, `documents`."
    )

    @model_validator(mode="before")
    @classmethod
    def _other_names(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        names = {"queries": "text_1", "items": "text_2", "documents": "text_2"}
        given = [names.get(name, name) for name, value in data.items() if value is not None]
        for name in ("text_1", "text_2"):
            if given.count(name) > 1:
                refuse_invalid("is sent under two names; send one of them", name)
        return {names.get(name, name): value for name, value in data.items() if value is not None}

    @property
    def num_inputs(self) -> int:
        """The number of inputs that are embedded."""
        return len(self.text_1) + len(self.text_2)

    @model_validator(mode="after")
    def _lengths_agree(self) -> ScoreRequest:
        first, second = len(self.text_1), len(self.text_2)
        if first != second and 1 not in (first, second):
            refuse_invalid(f"has {second} texts, and text_1 has {first}: one of them must have 1", "text_2")
        return self


class EmbeddingUsage(Reply):
    """The tokens of all inputs. There is no output, so that both numbers are equal."""

    prompt_tokens: int
    total_tokens: int


class Embedding(Reply):
    """The vector of one input: numbers, or the base64 text of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(Reply):
    """The reply to POST /v1/embeddings."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class RankedDocument(Reply):
    """The text of a document."""

    text: str


class RankedResult(Reply):
    """A document's number in the request, and its cosine similarity with the query."""

    index: int
    relevance_score: float
    document: RankedDocument | None = None


class Ranking(Reply):
    """The reply to POST /v1/rerank. The best document comes first."""

    id: str
    model: str
    usage: EmbeddingUsage
    results: list[RankedResult]


class Score(Reply):
    """The cosine similarity of one pair."""

    index: int
    object: Literal["score"]
    score: float


class ScoreList(Reply):
    """The reply to POST /v1/score."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Score]
    usage: EmbeddingUsage
