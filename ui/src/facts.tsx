// A table of names and values, one pair per row.
import type { JSX } from "preact";

export function Facts({ facts }: { facts: [name: string, value: string][] }): JSX.Element {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
