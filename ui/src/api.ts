// Calls the server. This file knows the key, the paths and the errors, but not what a conversation is.
import { eventData } from "./sse";
import type { ChatRequest, Chunk, EngineInfo, Model } from "./wire";

/** A call that failed. The status is that of the server's answer, or 0 if the connection failed. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export class Api {
  constructor(readonly key: string) {}

  /** Returns each model once, under its name: metrics don't know the aliases. */
  async models(): Promise<Model[]> {
    const reply = await this.call("v1/models");
    const { data } = (await reply.json()) as { data: Model[] };
    return data.filter(({ id, root }) => root === undefined || root === id);
  }

  async engineInfo(): Promise<EngineInfo> {
    return (await (await this.call("ui/engine.json")).json()) as EngineInfo;
  }

  /** Returns the metrics in Prometheus' text format. */
  async metrics(): Promise<string> {
    return (await this.call("metrics")).text();
  }

  /** Yields the chunks of a streamed reply. Throws ApiError, also if an error event comes in mid-stream. */
  async *chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<Chunk> {
    const body = JSON.stringify(request);
    const reply = await this.call("v1/chat/completions", { method: "POST", body, signal });
    if (!reply.body) return;
    for await (const data of eventData(reply.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data) as Chunk & { error?: unknown };
      if (chunk.error) throw new ApiError(reply.status, messageOf(chunk) ?? "The reply was interrupted.");
      yield chunk;
    }
    throw new ApiError(0, "The connection was closed before the reply was complete.");
  }

  private async call(path: string, init: RequestInit = {}): Promise<Response> {
    const headers: Record<string, string> = init.body ? { "Content-Type": "application/json" } : {};
    if (this.key) headers["Authorization"] = `Bearer ${this.key}`;
    // A proxy may publish the server below a prefix, so addresses are relative to the page's own.
    const reply = await fetch(path, { ...init, headers }).catch((error: unknown) => {
      if (init.signal?.aborted) throw error;
      throw new ApiError(0, "The server does not answer.");
    });
    if (reply.ok) return reply;
    const body: unknown = await reply.json().catch(() => null);
    throw new ApiError(reply.status, messageOf(body) ?? `The server answered with status ${reply.status}.`);
  }
}

/** Returns the message of OpenAI's error object, or null if there is none. */
function messageOf(body: unknown): string | null {
  const error = (body as { error?: { message?: unknown } } | null)?.error;
  return typeof error?.message === "string" ? error.message : null;
}
