"""From logits to tokens: penalties, masks, the choice of a token, and the scores that logprobs need."""
