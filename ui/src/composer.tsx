// The field for writing a message, and the button that sends it or stops the reply.
import type { ComponentChildren, JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { Icon } from "./icons";

interface Props {
  isStreaming: boolean;
  isBlocked: boolean;
  onSend: (text: string) => void;
  onStop: () => void;
  children: ComponentChildren;
}

export function Composer({ isStreaming, isBlocked, onSend, onStop, children }: Props): JSX.Element {
  const [text, setText] = useState("");
  const area = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => fit(area.current), [text]);

  const send = (): void => {
    if (isStreaming || isBlocked || !text.trim()) return;
    onSend(text);
    setText("");
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={area}
        rows={1}
        autofocus
        aria-label="Message"
        placeholder="Write a message"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          send();
        }}
      />
      <div class="buttons">
        {children}
        <span class="spring" />
        {isStreaming ? (
          <button type="button" class="primary round" title="Stop (Esc)" aria-label="Stop" onClick={onStop}>
            <Icon name="stop" />
          </button>
        ) : (
          <button
            type="submit"
            class="primary round"
            title="Send (Enter)"
            aria-label="Send"
            disabled={isBlocked || !text.trim()}
          >
            <Icon name="send" />
          </button>
        )}
      </div>
    </form>
  );
}

/** Makes the area as high as its text. The style sheet limits the height. */
export function fit(area: HTMLTextAreaElement | null): void {
  if (!area) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}
