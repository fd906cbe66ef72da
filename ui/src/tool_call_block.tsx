// A call that the model asks for.
import type { JSX } from "preact";
import type { ToolCall } from "./wire";

export function ToolCallBlock({ call }: { call: ToolCall }): JSX.Element {
  return (
    <details class="block" open>
      <summary>
        Calls <code>{call.function.name}</code>
      </summary>
      <pre class="block-text">{indented(call.function.arguments)}</pre>
    </details>
  );
}

/** JSON over several lines; what is not yet, or not at all, JSON as it is. */
function indented(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
