// Some models write their reasoning between <think> and </think>, at the start of their text.

export interface Parts {
  reasoning: string;
  content: string;
}

const OPEN = "<think>";
const CLOSE = "</think>";

/** Splits a text, which may be unfinished, into the reasoning and the content of the reply. */
export function splitReasoning(text: string): Parts {
  const start = text.trimStart();
  if (OPEN.startsWith(start) && start) return { reasoning: "", content: "" };
  if (!start.startsWith(OPEN)) return { reasoning: "", content: text };
  const inner = start.slice(OPEN.length);
  const end = inner.indexOf(CLOSE);
  if (end < 0) return { reasoning: inner, content: "" };
  return { reasoning: inner.slice(0, end), content: inner.slice(end + CLOSE.length).trimStart() };
}
