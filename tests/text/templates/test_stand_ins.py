"""Private characters for the names of control tokens."""

from __future__ import annotations

from jinja2 import Environment, nodes

from mlc_serve.text.templates.stand_ins import StandIns

NAMES = ("<|end|>", "<|end|>x", "</think>")


def test_names_are_replaced_and_put_back() -> None:
    """Each name is replaced by its own character, the longest match first, and can be put back."""
    stand_ins = StandIns(NAMES)
    covered = stand_ins.put_into("a<|end|>x<|end|>b<|end|>")
    assert len(covered) == 5
    assert covered[2] == covered[4] != covered[1]
    assert stand_ins.take_from(covered) == "a<|end|>x<|end|>b<|end|>"
    assert {*stand_ins.names.values()} == {"<|end|>", "<|end|>x"}


def test_what_a_template_writes_is_replaced_and_what_it_looks_for_is_not() -> None:
    """Names that a template writes are replaced; those that it compares or searches for are not."""
    tree = Environment(autoescape=True).parse(
        "<|end|>{{ '<|end|>' + x.split('</think>')[0] }}{% if '</think>' in x or x.endswith(('</think>',)) %}"
        "{{ x.replace('</think>', '<|end|>') }}{{ x | default('<|end|>') }}{% endif %}"
    )
    StandIns(NAMES).put_into_template(tree)
    constants = [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    texts = [node.data for node in tree.find_all(nodes.TemplateData)]
    assert constants.count("</think>") == 4
    assert not any("<|end|>" in text for text in (*constants, *texts))
