// A request as a command line, with the key left to the shell's environment.
import type { ChatRequest } from "./wire";

export function curlCommand(origin: string, request: ChatRequest, hasKey: boolean): string {
  const parts = [`curl -N ${origin}/v1/chat/completions`, `-H 'Content-Type: application/json'`];
  if (hasKey) parts.push(`-H "Authorization: Bearer $OPENAI_API_KEY"`);
  parts.push(`-d ${quoted(JSON.stringify(request))}`);
  return parts.join(" \\\n  ");
}

/** In single quotes a shell changes nothing; a single quote itself goes outside of them. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
