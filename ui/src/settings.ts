// What the user chose for a request. Fields hold the text as it was typed. If one is empty, the server decides.
import type { ChatRequest } from "./wire";

export interface Settings {
  system: string;
  temperature: string;
  topP: string;
  topK: string;
  maxTokens: string;
  seed: string;
  stop: string;
  tools: string;
}

export const DEFAULTS: Settings = {
  system: "",
  temperature: "",
  topP: "",
  topK: "",
  maxTokens: "",
  seed: "",
  stop: "",
  tools: "",
};

export const EXAMPLE_TOOLS = JSON.stringify(
  [
    {
      type: "function",
      function: {
        name: "get_weather",
        description: "Get the current weather in a city.",
        parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
      },
    },
  ],
  null,
  2,
);

/** Says why the tools can't be sent; null if they can. */
export function toolsFault(text: string): string | null {
  if (!text.trim()) return null;
  try {
    return Array.isArray(JSON.parse(text)) ? null : "Tools must be a JSON list.";
  } catch (error) {
    return `Tools are not valid JSON: ${(error as Error).message}`;
  }
}

/** The fields of a request that come from the settings. */
export function requestFields(settings: Settings): Partial<ChatRequest> {
  const fields = {
    temperature: number(settings.temperature),
    top_p: number(settings.topP),
    top_k: number(settings.topK),
    max_tokens: number(settings.maxTokens),
    seed: number(settings.seed),
    stop: lines(settings.stop),
    tools: settings.tools.trim() ? (JSON.parse(settings.tools) as unknown[]) : undefined,
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function number(text: string): number | undefined {
  return text.trim() === "" ? undefined : Number(text);
}

function lines(text: string): string[] | undefined {
  const found = text.split("\n").filter((line) => line !== "");
  return found.length ? found : undefined;
}
