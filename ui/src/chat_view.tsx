// The chat: its turns, the field for the next message, and the settings beside them.
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Composer } from "./composer";
import { curlCommand } from "./curl";
import { EmptyChat } from "./empty_chat";
import { Icon } from "./icons";
import { Message } from "./message";
import { toolsFault, type Settings } from "./settings";
import { SettingsPanel } from "./settings_panel";
import { ToolResults } from "./tool_results";
import type { Chat } from "./use_chat";
import { useStored } from "./use_stored";
import type { Turn } from "./conversation";

interface Props {
  chat: Chat;
  model: string;
  settings: Settings;
  onSettings: (settings: Settings) => void;
  hasKey: boolean;
}

export function ChatView({ chat, model, settings, onSettings, hasKey }: Props): JSX.Element {
  const [isOpen, setOpen] = useStored("settings-open", false);
  const { turns } = chat;
  const scroller = useFollowed(turns);
  useEscape(chat.isStreaming, chat.stop);
  const fault = toolsFault(settings.tools);
  const last = turns.at(-1);
  const ask = (text: string): void => chat.ask([{ role: "user", content: text }], turns.length);

  return (
    <main class={isOpen ? "chat with-settings" : "chat"}>
      <section class="talk" aria-label="Conversation">
        <div class="turns" ref={scroller} tabIndex={0} role="log" aria-live="off" aria-label="Messages">
          <div class="column">
            {turns.length === 0 && <EmptyChat model={model} onAsk={ask} />}
            {turns.map((turn, i) => (
              <Message
                key={i}
                turn={turn}
                isLast={i === turns.length - 1}
                isBlocked={fault !== null}
                onEdit={(text) => chat.ask([{ role: "user", content: text }], i)}
                onRetry={() => chat.ask([], i)}
                curl={() => curlCommand(new URL(".", document.baseURI).href, chat.requestAt(i), hasKey)}
              />
            ))}
            {last?.role === "assistant" && last.state === "done" && last.toolCalls.length > 0 && (
              <ToolResults
                key={turns.length}
                calls={last.toolCalls}
                isBlocked={fault !== null}
                onSend={(results) => chat.ask(results, turns.length)}
              />
            )}
          </div>
        </div>
        <div class="column foot">
          <Announcer last={last} />
          {fault && (
            <p class="fault" role="alert">
              {fault}
            </p>
          )}
          <Composer isStreaming={chat.isStreaming} isBlocked={fault !== null} onSend={ask} onStop={chat.stop}>
            <button type="button" class="plain" disabled={turns.length === 0} onClick={chat.clear}>
              <Icon name="plus" /> New chat
            </button>
            <button type="button" class="plain" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
              <Icon name="settings" /> Settings
            </button>
          </Composer>
        </div>
      </section>
      {isOpen && <SettingsPanel settings={settings} onChange={onSettings} onClose={() => setOpen(false)} />}
    </main>
  );
}

/** Says in words what happens to a reply, for screen readers. Reading out each token would be noise. */
function Announcer({ last }: { last: Turn | undefined }): JSX.Element {
  const state = last?.role === "assistant" ? last.state : null;
  const words = { streaming: "The model is answering.", done: "Answered.", stopped: "Stopped.", failed: "Failed." };
  return (
    <p class="unseen" role="status">
      {state && words[state]}
    </p>
  );
}

/** Scrolls to the end at each new turn, and as a reply grows unless the user has scrolled up. */
function useFollowed(turns: Turn[]): { current: HTMLDivElement | null } {
  const scroller = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  useEffect(() => {
    const element = scroller.current;
    const note = (): void => {
      if (element) isAtEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
    };
    element?.addEventListener("scroll", note, { passive: true });
    return () => element?.removeEventListener("scroll", note);
  }, []);
  useEffect(() => {
    isAtEnd.current = true;
  }, [turns.length]);
  useEffect(() => {
    if (isAtEnd.current) scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
  }, [turns]);
  return scroller;
}

function useEscape(isActive: boolean, act: () => void): void {
  useEffect(() => {
    if (!isActive) return undefined;
    const onKey = (event: KeyboardEvent): void => {
      if (event.key === "Escape") act();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [isActive, act]);
}
