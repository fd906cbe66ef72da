// Writes a request as a curl command. The command does not contain the key: the shell gets it from its environment.
import type { ChatRequest } from "./wire";

/** `base` is the address of the page, with a slash at its end. */
export function curlCommand(base: string, request: ChatRequest, hasKey: boolean): string {
  const parts = [`curl -N ${base}v1/chat/completions`, `-H 'Content-Type: application/json'`];
  if (hasKey) parts.push(`-H "Authorization: Bearer $OPENAI_API_KEY"`);
  parts.push(`-d ${quoted(JSON.stringify(request))}`);
  return parts.join(" \\\n  ");
}

/** Puts a text into single quotes, in which a shell changes nothing. A single quote can only stand outside of them. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
