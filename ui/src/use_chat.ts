// Sends the conversation, follows the reply and stops it. Nothing else changes the turns.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, type Api } from "./api";
import {
  isStreaming,
  reduce,
  requestAt,
  restored,
  type Action,
  type Input,
  type ReplyTurn,
  type Turn,
} from "./conversation";
import { Reply } from "./reply";
import type { Settings } from "./settings";
import { load, save } from "./storage";
import type { ChatRequest } from "./wire";

/** How often a growing reply is drawn. Tokens can arrive faster than anybody reads. */
const DRAW_MILLISECONDS = 40;

export interface Chat {
  turns: Turn[];
  isStreaming: boolean;
  /** Keeps the first `after` turns, adds the given ones, and asks for a reply. */
  ask: (turns: Input[], after: number) => void;
  stop: () => void;
  clear: () => void;
  requestAt: (index: number) => ChatRequest;
}

export function useChat(api: Api, model: string, settings: Settings, onUnauthorized: (message: string) => void): Chat {
  const [turns, setTurns] = useState<Turn[]>(() => restored(load<Turn[]>("conversation", [])));
  const latest = useRef(turns);
  const running = useRef<AbortController | null>(null);
  useSaved(turns, latest);

  const apply = (action: Action): Turn[] => {
    latest.current = reduce(latest.current, action);
    setTurns(latest.current);
    return latest.current;
  };
  const update = (reply: Partial<ReplyTurn>): unknown => apply({ type: "update", reply });
  const stop = (): void => running.current?.abort();

  const ask = (added: Input[], after: number): void => {
    stop();
    const controller = (running.current = new AbortController());
    const asked = apply({ type: "ask", turns: added, after });
    const request = requestAt(asked, asked.length - 1, model, settings);
    const updateIfCurrent = (reply: Partial<ReplyTurn>): void => {
      if (running.current === controller) update(reply);
    };
    void follow(api, request, controller.signal, updateIfCurrent).then((error) => {
      if (error?.status === 401) onUnauthorized(error.message);
    });
  };

  return {
    turns,
    isStreaming: isStreaming(turns),
    ask,
    stop,
    clear: () => {
      stop();
      running.current = null;
      apply({ type: "clear" });
    },
    requestAt: (index) => requestAt(latest.current, index, model, settings),
  };
}

/** Passes a reply's progress to `update` until it ends. Returns the error that ended it, or null. */
async function follow(
  api: Api,
  request: ChatRequest,
  signal: AbortSignal,
  update: (reply: Partial<ReplyTurn>) => void,
): Promise<ApiError | null> {
  const reply = new Reply(performance.now());
  const progress = (): Partial<ReplyTurn> => ({
    content: reply.content,
    reasoning: reply.reasoning,
    toolCalls: structuredClone(reply.toolCalls),
    finish: reply.finish,
    stats: reply.stats,
  });
  const timer = setInterval(() => update(progress()), DRAW_MILLISECONDS);
  try {
    for await (const chunk of api.chat(request, signal)) reply.push(chunk, performance.now());
    update({ ...progress(), state: "done" });
    return null;
  } catch (error) {
    if (signal.aborted) {
      update({ ...progress(), state: "stopped" });
      return null;
    }
    const failure = error instanceof ApiError ? error : new ApiError(0, `The reply was interrupted: ${String(error)}`);
    update({ ...progress(), state: "failed", error: failure.message });
    return failure;
  } finally {
    clearInterval(timer);
  }
}

/** Saves the turns whenever nothing is streaming, and when the user leaves the page. */
function useSaved(turns: Turn[], latest: { current: Turn[] }): void {
  useEffect(() => {
    if (!isStreaming(turns)) save("conversation", turns);
  }, [turns]);
  useEffect(() => {
    const keep = (): void => save("conversation", latest.current);
    addEventListener("pagehide", keep);
    return () => removeEventListener("pagehide", keep);
  }, [latest]);
}
