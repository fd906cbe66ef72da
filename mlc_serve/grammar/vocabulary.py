"""A model's vocabulary, as llguidance needs it."""

from __future__ import annotations

import llguidance

from mlc_serve.errors import RequestError
from mlc_serve.text.pieces import Piece
from mlc_serve.text.tokenization.tokenizer import Tokenizer

# llguidance demands an end token. This one is not the model's, whose end tokens depend on the request.
_END = b"<end of output>"


class Vocabulary:
    """The tokens below `vocab_size`, and one more, `end_id`, that stands for the end of the output.

    No other thread runs while llguidance reads a large vocabulary, so that this is done before requests come.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self.end_id = min(tokenizer.vocab_size, vocab_size)
        self._tokenizer = tokenizer
        ids = range(self.end_id)
        # The names are those that llguidance reads, directly and through its TokenizerWrapper.
        self.tokens = [*map(tokenizer.token_bytes, ids), _END]
        special = {*tokenizer.special_ids.values(), *filter(tokenizer.is_special, ids)}
        self.special_token_ids = [*(token_id for token_id in special if token_id < self.end_id), self.end_id]
        self.eos_token_id = self.end_id
        self.bos_token_id = None
        self.llguidance = llguidance.LLTokenizer(llguidance.TokenizerWrapper(self))

    def __call__(self, text: bytes) -> list[int]:
        """Return tokens whose bytes are this text.

        They are the tokenizer's own, unless it can't write this text without putting a space before it, as
        tokenizers from SentencePiece do.
        """
        try:
            ids = self._tokenizer.encode_pieces([Piece(text.decode(), is_control=False)])
        except (UnicodeDecodeError, RequestError):
            ids = []
        is_known = max(ids, default=0) < self.end_id
        is_exact = b"".join(map(self._tokenizer.token_bytes, ids)) == text and is_known
        return ids if is_exact else self.llguidance.greedy_tokenize(text.decode(errors="replace"))
