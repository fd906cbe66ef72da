// One turn of the conversation, with the buttons for what can be done with it.
import type { ComponentChildren, JSX } from "preact";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { CopyButton } from "./copy_button";
import { fit } from "./composer";
import type { ReplyTurn, ToolTurn, Turn, UserTurn } from "./conversation";
import { renderMarkdown } from "./markdown";
import { splitReasoning } from "./reasoning";
import { StatsLine } from "./stats_line";
import { ToolCallBlock } from "./tool_call_block";

interface Props {
  turn: Turn;
  isLast: boolean;
  /** Whether nothing can be sent, because the tools are invalid. */
  isBlocked: boolean;
  onEdit: (text: string) => void;
  onRetry: () => void;
  curl: () => string;
}

export function Message({ turn, ...props }: Props): JSX.Element {
  if (turn.role === "user") return <UserMessage turn={turn} {...props} />;
  if (turn.role === "tool") return <ToolMessage turn={turn} />;
  return <ReplyMessage turn={turn} {...props} />;
}

function UserMessage({ turn, isBlocked, onEdit }: Omit<Props, "turn"> & { turn: UserTurn }): JSX.Element {
  const [draft, setDraft] = useState<string | null>(null);
  if (draft === null) {
    return (
      <article class="message user" aria-label="You">
        <div class="bubble">{turn.content}</div>
        <div class="actions">
          <button type="button" onClick={() => setDraft(turn.content)}>
            Edit
          </button>
          <CopyButton label="Copy" text={() => turn.content} />
        </div>
      </article>
    );
  }
  const send = (text: string): void => {
    setDraft(null);
    onEdit(text);
  };
  return (
    <Editor draft={draft} isBlocked={isBlocked} onDraft={setDraft} onSend={send} onCancel={() => setDraft(null)} />
  );
}

interface EditorProps {
  draft: string;
  isBlocked: boolean;
  onDraft: (text: string) => void;
  onSend: (text: string) => void;
  onCancel: () => void;
}

function Editor({ draft, isBlocked, onDraft, onSend, onCancel }: EditorProps): JSX.Element {
  const area = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => fit(area.current), [draft]);
  useLayoutEffect(() => area.current?.focus(), []);
  return (
    <form
      class="message editor"
      onSubmit={(event) => {
        event.preventDefault();
        if (!isBlocked && draft.trim()) onSend(draft);
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape") onCancel();
      }}
    >
      <textarea
        ref={area}
        aria-label="Edit message"
        value={draft}
        onInput={(event) => onDraft(event.currentTarget.value)}
      />
      <div class="buttons">
        <p class="hint">Everything after this message is replaced by a new reply.</p>
        <button type="button" onClick={onCancel}>
          Cancel
        </button>
        <button type="submit" class="primary" disabled={isBlocked || !draft.trim()}>
          Send
        </button>
      </div>
    </form>
  );
}

function ToolMessage({ turn }: { turn: ToolTurn }): JSX.Element {
  return (
    <article class="message user" aria-label={`Result of ${turn.name}`}>
      <div class="bubble tool">
        <span class="caption">Result of {turn.name}</span>
        {turn.content}
      </div>
    </article>
  );
}

function ReplyMessage({
  turn,
  isLast,
  isBlocked,
  onRetry,
  curl,
}: Omit<Props, "turn"> & { turn: ReplyTurn }): JSX.Element {
  const parts = useMemo(() => splitReasoning(turn.content), [turn.content]);
  const reasoning = turn.reasoning + parts.reasoning;
  const isStreaming = turn.state === "streaming";
  const isWaiting = isStreaming && !parts.content && !reasoning && turn.toolCalls.length === 0;
  return (
    <article class="message reply" aria-label="Reply" aria-busy={isStreaming} data-state={turn.state}>
      {reasoning && <Reasoning text={reasoning} isThinking={isStreaming && !parts.content} />}
      {isWaiting && (
        <p class="waiting">
          <span class="dots" aria-hidden="true" />
          <span class="unseen">Waiting for the first token</span>
        </p>
      )}
      {parts.content && <Markdown text={parts.content} />}
      {turn.toolCalls.map((call) => (
        <ToolCallBlock key={call.id} call={call} />
      ))}
      {turn.error !== null && (
        <p class="fault" role="alert">
          {turn.error}
        </p>
      )}
      {turn.finish === "length" && <p class="note">Cut off: the token limit was reached.</p>}
      {turn.state === "stopped" && <p class="note">Stopped.</p>}
      <div class="meta">
        {turn.stats && <StatsLine stats={turn.stats} />}
        {!isStreaming && (
          <Actions isShown={isLast}>
            <button type="button" disabled={isBlocked} onClick={onRetry}>
              Retry
            </button>
            {parts.content && <CopyButton label="Copy" text={() => parts.content} />}
            {!isBlocked && <CopyButton label="Copy as curl" text={curl} />}
          </Actions>
        )}
      </div>
    </article>
  );
}

function Actions({ isShown, children }: { isShown: boolean; children: ComponentChildren }): JSX.Element {
  return <div class={isShown ? "actions shown" : "actions"}>{children}</div>;
}

function Markdown({ text }: { text: string }): JSX.Element {
  const html = useMemo(() => renderMarkdown(text), [text]);
  return <div class="markdown" dangerouslySetInnerHTML={{ __html: html }} />;
}

function Reasoning({ text, isThinking }: { text: string; isThinking: boolean }): JSX.Element {
  return (
    <details class="block" open={isThinking}>
      <summary>{isThinking ? "Thinking" : "Reasoning"}</summary>
      <div class="block-text">{text.trim()}</div>
    </details>
  );
}
