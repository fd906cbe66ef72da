// Shows a tool call that the model asks for.
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

/** Spreads JSON over several lines. Text that is not JSON, or not yet complete, stays as it is. */
function indented(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
