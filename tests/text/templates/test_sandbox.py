"""The environment of chat templates."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from jinja2 import TemplateRuntimeError
from jinja2.exceptions import SecurityError

from mlc_serve.text.templates.meter import Meter
from mlc_serve.text.templates.sandbox import TemplateSandbox

TREE = [{"name": "a", "parts": [{"name": "b", "parts": []}]}]
# A list that is doubled thirty times.
DOUBLED = (
    "{% set ns = namespace(x=['ab']) %}{% for i in range(30) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
)
BIG = "{% set big = 'ab' * 100000 %}"


def rendered(source: str, limit: int | None = None, **variables: Any) -> str:
    """A template's text, rendered with at most `limit` steps."""
    sandbox = TemplateSandbox()
    return "".join(sandbox.run(sandbox.from_string(source), variables, Meter(limit)))


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
        ("{{ 'a' + 'b' + missing | default('c') }}{{ 1 + 2 + 0.5 }}{{ [1] + [2] }}", "abc3.5[1, 2]"),
        ("{{ 'a' ~ 1 ~ none ~ [2] ~ missing }}", "a1None[2]"),
        ("{{ 'abcdef'[1:4] }}{{ [1, 2, 3][::-1] }}{{ 'abc'[-1] }}{{ tree[0]['name'] }}", "bcd[3, 2, 1]ca"),
        ("{{ 1 < 2 < 3 }}{{ 'b' in 'abc' }}{{ 'a' in {'a': 1} }}{{ [1, [2]] == [1, [2]] }}", "True" * 4),
        ("{{ 'x-%s-%03d' % ('a', 7) }}{{ '{} {a!r:>4}'.format(1, a='b') }}", "x-a-0071  'b'"),
        ("{{ ['b', 'a'] | sort | map('upper') | join(', ') }}{{ [1, 2] | sum }}", "A, B3"),
        (
            "{{ ' a b '.strip().split() }}{{ 'a,b'.split(',', 1) }}{{ '-'.join(['a', 'b']) }}",
            "['a', 'b']" * 2 + "a-b",
        ),
        ("{{ {'a': 'ä'} | tojson(ensure_ascii=true, separators=(',', ':')) }}", '{"a":"\\u00e4"}'),
        ("{{ [2] | tojson(indent=1) }}{{ [1, 2] | join(d='-') }}", "[\n 2\n]1-2"),
        ("{{ 'abc' | replace('b', '') }}{{ 'a'.replace('a', 'bb') }}{{ 'a\nb' | indent(2) }}", "acbba\n  b"),
        ("{% macro m(x) %}<{{ x }}{{ caller() }}>{% endmacro %}{% call m(1) %}in{% endcall %}", "<1in>"),
        ("{% block b scoped %}{{ 'x' * 2 }}{% endblock %}{{ self.b() }}", "xxxx"),
        (
            "{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.next() }}{% set j = joiner() %}{{ j() }}{{ j() }}",
            "12, ",
        ),
        ("{{ {'get': 1, 'items': 2}['get'] }}{{ {'a': 1}.get('a') }}{{ {'a': 1}.get('b', 2) }}", "112"),
        (
            "{{ [3, 1] | max }}{{ [1, 2, 3] | batch(2) | list }}{{ 7 is odd }}{{ 2.5 | round }}",
            "3[[1, 2], [3]]True2.0",
        ),
    ],
)
def test_meters_change_nothing_that_a_template_can_see(source: str, expected: str) -> None:
    """Loops, operators, filters and methods work as in Jinja2."""
    assert rendered(source, tree=TREE) == expected


def test_steps_bound_the_turns_of_loops() -> None:
    """A loop that needs no more than the steps passes, a longer one is stopped."""
    source = "{% for x in text %}{{ x }}{% endfor %}"

    assert rendered(source, 20, text="abcde") == "abcde"
    with pytest.raises(TemplateRuntimeError, match="not done after 20 steps"):
        rendered(source, 20, text="abcdefghijklm")


def test_a_long_body_takes_more_steps() -> None:
    """An iteration costs by the length of the loop's body, so that a template can't hide its work there."""
    with pytest.raises(TemplateRuntimeError, match="not done"):
        rendered("{% for x in range(100) %}" + "{{ [x, x, x] | first }}" * 100 + "{% endfor %}", 10_000)


def test_a_cancelled_rendering_ends() -> None:
    """A cancelled rendering ends at its next step, although some steps are left."""
    sandbox, meter = TemplateSandbox(), Meter()
    parts = sandbox.run(sandbox.from_string("{% for x in range(9) %}{{ x }}{% endfor %}"), {}, meter)

    assert next(parts) == "0"
    meter.cancel()
    with pytest.raises(TemplateRuntimeError, match="cancelled"):
        list(parts)


@pytest.mark.parametrize(
    "source",
    [
        # Loops and calls that don't end.
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) if a > range(99999) | sum %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% for a in range(99999) | list recursive %}{{ loop(range(99999)) }}{% endfor %}",
        "{% macro f(n) %}{% for i in range(9) %}{{ f(n) }}{% endfor %}{% endmacro %}{{ f(1) }}",
        "{% block b %}{% for i in range(99) %}{{ self.b() }}{% endfor %}{% endblock %}",
        # Texts that are long at once.
        "{{ 'x' * 3000000000 }}",
        "{{ 3000000000 * 'x' }}",
        "{{ [0] * 3000000000 }}",
        "{{ 'x' | center(3000000000) }}",
        "{{ 'x'.center(3000000000) }}",
        "{{ 'x'.ljust(3000000000) }}",
        "{{ 'x'.zfill(3000000000) }}",
        "{{ '\t'.expandtabs(3000000000) }}",
        "{{ '%3000000000d' % 1 }}",
        "{{ '%.3000000000f' % 1 }}",
        "{{ '%*d' % (3000000000, 1) }}",
        "{{ '%3000000000d' | format(1) }}",
        "{{ '%3000000000d' is even }}",
        "{{ '%3000000000d' is divisibleby 3 }}",
        "{{ ['%3000000000d'] | map('format', 1) | list }}",
        "{{ ['%3000000000d'] | select('odd') | list }}",
        "{{ '{:3000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 3000000000) }}",
        "{{ '{x:3000000000}'.format_map({'x': 1}) }}",
        "{{ 'x\n' | indent(3000000000) }}",
        "{{ [1] | batch(3000000000, 0) | list }}",
        "{{ [1] | slice(3000000000) | list }}",
        "{{ lipsum(3000000000) }}",
        "{{ lipsum(n=9, max=3000000000) }}",
        "{{ [1] | batch(linecount=3000000000, fill_with=0) | list }}",
        "{{ [1] | slice(slices=3000000000) | list }}",
        "{{ 'x' | center(width=3000000000) }}",
        "{{ [1, [2]] | tojson(false, 3000000000) }}",
        BIG + "{{ (range(999) | list) | join(d=big) }}",
        BIG + "{{ big | replace(old='a', new=big) }}",
        "{{ 'x'.encode() * 3000000000 }}",
        "{{ [1, [2]] | tojson(indent=3000000000) }}",
        "{{ ('x' * 99) | round(300000, 'ceil') }}",
        # Numbers that are long.
        "{{ (9 ** 9) ** 99999999 }}",
        "{% set ns = namespace(x=9) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{% set ns = namespace(x=9) %}{% for i in range(99999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set n = namespace(x=9) %}{% for i in range(9999) %}{% set n.x = n.x - (0 - n.x) %}{% endfor %}",
        "{{ ('f' * 999999) | int(0, 16) }}",
        # Texts that grow.
        BIG + "{{ big | replace('a', big) }}",
        BIG + "{{ big.replace('', big) }}",
        BIG + "{{ big.join([big, big, big, big, big, big, big, big, big, big]) }}",
        BIG + "{{ (range(999) | list) | join(big) }}",
        BIG + "{{ big.translate({97: big}) }}",
        BIG + "{{ big ~ big ~ big ~ big ~ big ~ big ~ big ~ big ~ big ~ big ~ big }}",
        BIG + "{{ big | wordwrap(1) }}",
        BIG + "{{ big | urlize }}{{ big | striptags }}",
        BIG + "{{ big.rsplit('a') }}{{ big.split() }}",
        BIG + "{{ big.strip(big) }}",
        BIG + "{{ big | xmlattr }}{{ {'a': big} | xmlattr }}{{ big | e | e | e | pprint }}",
        BIG + "{% for i in range(9999) %}{% if big in big or big == big + 'a' %}{% endif %}{% endfor %}",
        BIG + "{% for i in range(9999) %}{{ big }}{% endfor %}",
        BIG + "{% macro m() %}{% for i in range(9999) %}{{ big }}{% endfor %}{% endmacro %}{{ m() }}",
        BIG + "{% set x %}{% for i in range(9999) %}{{ big }}{% endfor %}{% endset %}",
        BIG + "{% for i in range(9999) %}{% if big[1:] %}{% endif %}{% endfor %}",
        BIG + "{{ raise_exception(big * 9) }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{{ (range(99999) | list * 500) | join }}",
        "{{ (range(99999) | list * 500) | sum }}",
        "{% for i in range(9999) %}{{ range(99999) | list | length }}{% endfor %}",
        "{% for i in range(9999) %}{% set x = cycler(*range(99999)) %}{% endfor %}",
        "{% for i in range(9999) %}{{ ([[0]] * 999) | sum(start=[]) }}{% endfor %}",
        # Few lists that hold each other many times over.
        DOUBLED + "{{ ns.x }}",
        DOUBLED + "{{ ns.x | tojson }}",
        DOUBLED + "{{ ns.x | string }}",
        DOUBLED + "{{ '%s' % ns.x }}",
        DOUBLED + "{{ ns.x ~ '' }}",
        DOUBLED + "{{ [ns.x] | join }}",
        DOUBLED + "{% set y = [ns.x, ns.x] %}{{ [ns.x, 1] == [y[0], 2] }}{{ ns.x < y }}",
        DOUBLED.replace("[ns.x, ns.x]", "(ns.x, ns.x)") + "{{ {ns.x: 1} }}",
        DOUBLED.replace("[ns.x, ns.x]", "(ns.x, ns.x)") + "{{ {}[ns.x] }}",
        DOUBLED.replace("[ns.x, ns.x]", "(ns.x, ns.x)") + "{{ {}.get(ns.x) }}",
        DOUBLED.replace("[ns.x, ns.x]", "(ns.x, ns.x)") + "{{ ns.x in {} }}{{ [ns.x] | unique | list }}",
        # Attempts to get rid of the meter.
        "{% set meter = none %}{% set context = none %}{{ 'x' * 3000000000 }}",
        "{{ strftime_now('%3000000000d') }}",
    ],
)
def test_hostile_templates_end_within_bounds(source: str) -> None:
    """Each hostile template is stopped before it takes too much memory or time."""
    tracemalloc.start()
    try:
        with pytest.raises(
            Exception, match=r"not done after|too long|width|calls itself|recursion|rounds|bytes|wide"
        ):
            rendered(source, 20_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20


def test_python_is_out_of_reach() -> None:
    """Attributes that lead out of the sandbox are refused, and so are methods that no template needs."""
    for source in ("{{ ''.__class__.__base__.__subclasses__() }}", "{{ (5).to_bytes(2, 'big') }}"):
        with pytest.raises(SecurityError):
            rendered(source)


def test_a_namespace_does_not_show_what_it_holds() -> None:
    """A namespace is shown without its contents, as it would not end if it contained itself."""
    assert rendered("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}") == "<namespace>"
