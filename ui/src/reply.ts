// A reply as it grows: collects its chunks, and has its text, reasoning, tool calls and times. Times are milliseconds
// of performance.now().
import type { Chunk, Delta, ToolCall, ToolCallDelta, Usage } from "./wire";

export interface Stats {
  /** Milliseconds from the request to the first token; null if tokens were held back, as those of tool calls are. */
  firstToken: number | null;
  /** The server's count of output tokens; until it arrives, the number of pieces received. */
  tokens: number;
  isExact: boolean;
  /**
   * Output tokens per second since the first token, or since the request if tokens were held back. Null for fewer than
   * two tokens.
   */
  rate: number | null;
  promptTokens: number | null;
  cachedTokens: number | null;
}

export class Reply {
  content = "";
  reasoning = "";
  finish: string | null = null;
  readonly toolCalls: ToolCall[] = [];
  private usage: Usage | null = null;
  private pieces = 0;
  private first: number | null = null;
  private last: number | null = null;

  constructor(private readonly sent: number) {}

  push(chunk: Chunk, now: number): void {
    this.usage = chunk.usage ?? this.usage;
    const choice = chunk.choices[0];
    if (!choice) return;
    this.finish = choice.finish_reason ?? this.finish;
    if (this.add(choice.delta)) this.note(now);
  }

  get stats(): Stats | null {
    if (this.first === null || this.last === null) return null;
    const tokens = this.usage?.completion_tokens ?? this.pieces;
    const isHeldBack = tokens > 2 * this.pieces;
    const seconds = (this.last - (isHeldBack ? this.sent : this.first)) / 1000;
    return {
      firstToken: isHeldBack ? null : this.first - this.sent,
      tokens,
      isExact: this.usage !== null,
      rate: tokens > 1 && seconds > 0 ? (isHeldBack ? tokens : tokens - 1) / seconds : null,
      promptTokens: this.usage?.prompt_tokens ?? null,
      cachedTokens: this.usage?.prompt_tokens_details?.cached_tokens ?? null,
    };
  }

  /** Adds a delta, and returns whether it contained anything. */
  private add(delta: Delta): boolean {
    const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
    const calls = delta.tool_calls ?? [];
    this.content += delta.content ?? "";
    this.reasoning += reasoning;
    calls.forEach((call) => this.addCall(call));
    return Boolean(delta.content || reasoning || calls.length);
  }

  private addCall(delta: ToolCallDelta): void {
    const call = (this.toolCalls[delta.index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
    call.id = delta.id ?? call.id;
    call.function.name += delta.function?.name ?? "";
    call.function.arguments += delta.function?.arguments ?? "";
  }

  private note(now: number): void {
    this.pieces += 1;
    this.first ??= now;
    this.last = now;
  }
}
