// What a chat shows before its first message.
import type { JSX } from "preact";

/** Examples of what the demo model was trained to answer. */
const DEMO_QUESTIONS = ["What is 17 plus 25?", "Spell the word house.", "What is the capital of France?"];

export function EmptyChat({ model, onAsk }: { model: string; onAsk: (text: string) => void }): JSX.Element {
  return (
    <div class="empty">
      <h1>
        {model ? (
          <>
            Talk to <span class="name">{model}</span>
          </>
        ) : (
          "No model yet"
        )}
      </h1>
      <p>
        <kbd>Enter</kbd> sends, <kbd>Shift</kbd>+<kbd>Enter</kbd> starts a new line, <kbd>Esc</kbd> stops a reply.
      </p>
      {model === "demo" && (
        <div class="examples">
          {DEMO_QUESTIONS.map((question) => (
            <button key={question} type="button" onClick={() => onAsk(question)}>
              {question}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
