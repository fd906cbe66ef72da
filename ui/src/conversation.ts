// The conversation: what was said, who said it, and how each reply ended. These functions are pure: they use no clock,
// no network and no page.
import type { Stats } from "./reply";
import { splitReasoning } from "./reasoning";
import { requestFields, type Settings } from "./settings";
import type { ChatRequest, ToolCall, WireMessage } from "./wire";

export interface UserTurn {
  role: "user";
  content: string;
}

export interface ToolTurn {
  role: "tool";
  content: string;
  callId: string;
  name: string;
}

export type ReplyState = "streaming" | "done" | "stopped" | "failed";

export interface ReplyTurn {
  role: "assistant";
  content: string;
  reasoning: string;
  toolCalls: ToolCall[];
  state: ReplyState;
  finish: string | null;
  error: string | null;
  stats: Stats | null;
}

/** A turn that the user adds. */
export type Input = UserTurn | ToolTurn;

export type Turn = Input | ReplyTurn;

export type Action =
  { type: "ask"; turns: Input[]; after: number } | { type: "update"; reply: Partial<ReplyTurn> } | { type: "clear" };

const EMPTY_REPLY: ReplyTurn = {
  role: "assistant",
  content: "",
  reasoning: "",
  toolCalls: [],
  state: "streaming",
  finish: null,
  error: null,
  stats: null,
};

/** `ask` keeps the first `after` turns, adds the given ones and begins a reply. `update` changes the last reply. */
export function reduce(turns: Turn[], action: Action): Turn[] {
  switch (action.type) {
    case "ask":
      return [...turns.slice(0, action.after), ...action.turns, EMPTY_REPLY];
    case "update":
      return turns.map((turn, i) =>
        i === turns.length - 1 && turn.role === "assistant" ? { ...turn, ...action.reply } : turn,
      );
    case "clear":
      return [];
  }
}

export function isStreaming(turns: Turn[]): boolean {
  const last = turns.at(-1);
  return last?.role === "assistant" && last.state === "streaming";
}

/** The stored turns, as a reopened page shows them. A reply that was still streaming becomes a stopped one. */
export function restored(turns: Turn[]): Turn[] {
  if (!Array.isArray(turns)) return [];
  return isStreaming(turns) ? reduce(turns, { type: "update", reply: { state: "stopped" } }) : turns;
}

/** The request for the reply at `index`. That reply need not exist yet. */
export function requestAt(turns: Turn[], index: number, model: string, settings: Settings): ChatRequest {
  const system: WireMessage[] = settings.system.trim() ? [{ role: "system", content: settings.system }] : [];
  return {
    ...(model ? { model } : {}),
    messages: [...system, ...turns.slice(0, index).filter(hasSubstance).map(wireMessage)],
    ...requestFields(settings),
    stream: true,
    stream_options: { include_usage: true },
  };
}

/** Whether a turn belongs in a request. A reply that failed before its first token does not: it says nothing. */
function hasSubstance(turn: Turn): boolean {
  return turn.role !== "assistant" || turn.content !== "" || turn.toolCalls.length > 0;
}

function wireMessage(turn: Turn): WireMessage {
  if (turn.role === "user") return { role: "user", content: turn.content };
  if (turn.role === "tool") return { role: "tool", content: turn.content, tool_call_id: turn.callId };
  const content = splitReasoning(turn.content).content;
  if (!turn.toolCalls.length) return { role: "assistant", content };
  return { role: "assistant", content: content || null, tool_calls: turn.toolCalls };
}
