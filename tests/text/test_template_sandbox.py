"""The environment of chat templates."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import TemplateRuntimeError
from jinja2.exceptions import SecurityError

from mlc_serve.text.template_sandbox import StepBudget, TemplateSandbox

TREE = [{"name": "a", "parts": [{"name": "b", "parts": []}]}]


def rendered(source: str, **variables: Any) -> str:
    """A template's text with a fresh budget."""
    sandbox = TemplateSandbox()
    return sandbox.from_string(sandbox.parse(source)).render(variables | {StepBudget.NAME: StepBudget()})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "{% for x in 'abc' %}{{ loop.index }}/{{ loop.length }}{{ x if loop.last }},{% endfor %}",
            "1/3,2/3,3/3c,",
        ),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{% for x in missing %}x{% else %}none{% endfor %}", "none"),
        ("{% for x in tree recursive %}{{ x.name }}{{ loop(x.parts) }}{% endfor %}", "ab"),
        (
            "{% for x in [1, 2, 3, 4] if x != 2 %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
            "13",
        ),
        ("{% generation %}\n  {{ 1 }}\n{% endgeneration %}\nend", "  1\nend"),
        ("{{ {'b': \"<'&>\", 'a': 'ä'} | tojson }}", '{"b": "<\'&>", "a": "ä"}'),
    ],
)
def test_metered_loops_and_added_tags_are_as_templates_expect(source: str, expected: str) -> None:
    """Counting the turns of a loop changes nothing that a template can see."""
    assert rendered(source, tree=TREE) == expected


def test_the_budget_bounds_turns_of_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last allowed turn passes, the next one does not."""
    monkeypatch.setattr(StepBudget, "LIMIT", 5)

    assert rendered("{% for x in 'abcde' %}{{ x }}{% endfor %}") == "abcde"
    with pytest.raises(TemplateRuntimeError, match="not done after 5 steps"):
        rendered("{% for x in 'abcdef' %}{{ x }}{% endfor %}")


def test_python_is_out_of_reach() -> None:
    """Attributes that lead out of the sandbox are refused."""
    with pytest.raises(SecurityError):
        rendered("{{ ''.__class__.__base__.__subclasses__() }}")
