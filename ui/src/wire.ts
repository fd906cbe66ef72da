// What the page sends to the server and what the server sends back, as far as the page uses it.

export interface FunctionCall {
  name: string;
  arguments: string;
}

export interface ToolCall {
  id: string;
  type: "function";
  function: FunctionCall;
}

export interface ToolCallDelta {
  index: number;
  id?: string | null;
  function?: { name?: string | null; arguments?: string | null };
}

export interface Delta {
  content?: string | null;
  reasoning?: string | null;
  reasoning_content?: string | null;
  tool_calls?: ToolCallDelta[] | null;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number };
}

export interface Chunk {
  choices: { delta: Delta; finish_reason: string | null }[];
  usage?: Usage | null;
}

export type WireMessage =
  | { role: "system" | "user"; content: string }
  | { role: "assistant"; content: string | null; tool_calls?: ToolCall[] }
  | { role: "tool"; content: string; tool_call_id: string };

export interface ChatRequest {
  model?: string;
  messages: WireMessage[];
  stream: true;
  stream_options: { include_usage: true };
  tools?: unknown[];
  temperature?: number;
  top_p?: number;
  top_k?: number;
  max_tokens?: number;
  seed?: number;
  stop?: string[];
}

/** An entry of /v1/models. `root` is the model's name, which differs from `id` if that is an alias. */
export interface Model {
  id: string;
  root?: string;
  max_model_len?: number;
}

export interface EngineCard {
  name: string;
  device: string;
  quantization: string;
  kv_cache: { page_size: number; num_pages: number };
  limits: Record<string, string | number | null>;
}

export interface EngineInfo {
  version: string;
  supervisor: string | null;
  models: EngineCard[];
}
