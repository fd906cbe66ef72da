"""Output that must follow a JSON schema, a regular expression or a grammar.

    Grammar         what a request asks for: a kind, and a text from the client
      Grammars      compiles them for one model, on any thread; bounded and cached
        Template    a compiled grammar, from which each choice gets a
          GrammarConstraint   which the engine asks for masks (engine.constraint.Constraint)

closed_schema keeps keys out of objects that their schema doesn't name.
ReasoningLimit ends the reasoning before such output, or before any other, after so many tokens.
The parser is llguidance (https://github.com/guidance-ai/llguidance).
"""

from mlc_serve.grammar.closed_schema import closed_schema
from mlc_serve.grammar.grammar import Grammar
from mlc_serve.grammar.grammars import Grammars, Template
from mlc_serve.grammar.reasoning_limit import ReasoningLimit

__all__ = ["Grammar", "Grammars", "ReasoningLimit", "Template", "closed_schema"]
