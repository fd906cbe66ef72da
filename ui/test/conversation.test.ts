import { expect, test } from "vitest";
import { isStreaming, reduce, requestAt, restored, type Turn } from "../src/conversation";
import { curlCommand } from "../src/curl";
import { splitReasoning } from "../src/reasoning";
import { Reply } from "../src/reply";
import { DEFAULTS, requestFields, toolsFault } from "../src/settings";
import { eventData } from "../src/sse";
import type { Chunk, Delta } from "../src/wire";

const ask = (turns: Turn[], text: string, after = turns.length): Turn[] =>
  reduce(turns, { type: "ask", turns: [{ role: "user", content: text }], after });
const chunk = (delta: Delta): Chunk => ({ choices: [{ delta, finish_reason: null }] });

test("an edited turn replaces everything after it", () => {
  let turns = reduce(ask([], "one"), { type: "update", reply: { content: "1", state: "done" } });
  turns = ask(turns, "two");
  turns = ask(turns, "other", 0);
  expect(turns.map((turn) => turn.content)).toEqual(["other", ""]);
  expect(isStreaming(turns)).toBe(true);
  expect(isStreaming(restored(turns))).toBe(false);
});

test("a request contains the system prompt, the conversation and the settings", () => {
  const turns = reduce(ask([], "one"), { type: "update", reply: { content: "<think>hm</think>1", state: "done" } });
  const request = requestAt(ask(turns, "two"), 3, "m", {
    ...DEFAULTS,
    system: "Be brief.",
    temperature: "0",
    stop: "a\nb",
  });
  expect(request).toMatchObject({
    model: "m",
    temperature: 0,
    stop: ["a", "b"],
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "one" },
      { role: "assistant", content: "1" },
      { role: "user", content: "two" },
    ],
  });
  expect("top_p" in request).toBe(false);
});

test("empty settings add nothing to a request, and invalid tools are reported", () => {
  expect(requestFields(DEFAULTS)).toEqual({});
  expect(toolsFault("")).toBeNull();
  expect(toolsFault("{}")).toMatch(/list/);
  expect(toolsFault("[")).toMatch(/not valid JSON/);
});

test("reasoning is split off, even while it is unfinished", () => {
  expect(splitReasoning("<thi")).toEqual({ reasoning: "", content: "" });
  expect(splitReasoning("<think>a")).toEqual({ reasoning: "a", content: "" });
  expect(splitReasoning("\n<think>a</think>\n\nb")).toEqual({ reasoning: "a", content: "b" });
  expect(splitReasoning("1 < 2")).toEqual({ reasoning: "", content: "1 < 2" });
});

test("a reply collects text, reasoning and tool calls", () => {
  const reply = new Reply(1000);
  reply.push(chunk({ content: "" }), 1010);
  reply.push(chunk({ content: "He" }), 1100);
  reply.push(chunk({ reasoning_content: "why", content: "y" }), 1300);
  reply.push(chunk({ tool_calls: [{ index: 0, id: "c", function: { name: "f", arguments: '{"a"' } }] }), 1400);
  reply.push(chunk({ tool_calls: [{ index: 0, function: { arguments: ":1}" } }] }), 1600);
  expect([reply.content, reply.reasoning]).toEqual(["Hey", "why"]);
  expect(reply.toolCalls).toEqual([{ id: "c", type: "function", function: { name: "f", arguments: '{"a":1}' } }]);
  expect(reply.stats).toMatchObject({ firstToken: 100, tokens: 4, isExact: false, rate: 6 });
});

test("a reply whose tokens were held back has no time to the first one", () => {
  const reply = new Reply(0);
  reply.push(chunk({ content: "all at once" }), 1000);
  reply.push({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 20 } }, 1001);
  expect(reply.stats).toMatchObject({ firstToken: null, rate: 20, isExact: true, promptTokens: 3 });
});

test("events are assembled from pieces, and comments are skipped", async () => {
  const pieces = ["data: a\n", "\n: ping\n\ndata: b", "\r\n\r\ndata: €".slice(0, 20), "\n\n"];
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(new TextEncoder().encode(piece));
      controller.close();
    },
  });
  const seen: string[] = [];
  for await (const data of eventData(body)) seen.push(data);
  expect(seen).toEqual(["a", "b", "€"]);
});

test("a copied command escapes quotes and contains no key", () => {
  const request = requestAt(ask([], "it's"), 1, "m", DEFAULTS);
  const command = curlCommand("http://h", request, true);
  expect(command).toContain(`it'\\''s`);
  expect(command).toContain("$OPENAI_API_KEY");
});
