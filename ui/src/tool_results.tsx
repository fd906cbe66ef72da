// Fields for the results of tool calls. The user fills them in, instead of a program that runs the tools.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { ToolTurn } from "./conversation";
import type { ToolCall } from "./wire";

interface Props {
  calls: ToolCall[];
  isBlocked: boolean;
  onSend: (results: ToolTurn[]) => void;
}

export function ToolResults({ calls, isBlocked, onSend }: Props): JSX.Element {
  const [texts, setTexts] = useState<string[]>(() => calls.map(() => ""));
  const results = calls.map((call, i): ToolTurn => ({
    role: "tool",
    content: texts[i] ?? "",
    callId: call.id,
    name: call.function.name,
  }));
  return (
    <form
      class="message results"
      onSubmit={(event) => {
        event.preventDefault();
        onSend(results);
      }}
    >
      {calls.map((call, i) => (
        <label key={call.id}>
          Result of {call.function.name}
          <input
            value={texts[i] ?? ""}
            placeholder='{"temperature": 21}'
            onInput={(event) => setTexts(texts.with(i, event.currentTarget.value))}
          />
        </label>
      ))}
      <button type="submit" disabled={isBlocked || texts.some((text) => !text.trim())}>
        Send results
      </button>
    </form>
  );
}
