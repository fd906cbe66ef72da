// Shows the supervisor's status in words.
import type { JSX } from "preact";
import { duration } from "./format";
import { Facts } from "./facts";
import { age, useSupervisor, type SupervisorStatus } from "./supervisor";

export function SupervisorCard({ url }: { url: string }): JSX.Element {
  const status = useSupervisor(url);
  return (
    <section class="card" aria-label="Supervisor">
      <h2>Supervisor</h2>
      <p class={`state ${tone(status)}`}>{words(status)}</p>
      {status?.error && <p class="fault">{status.error}</p>}
      {status && <Facts facts={facts(status)} />}
    </section>
  );
}

function words(status: SupervisorStatus | null): string {
  if (!status) return "does not answer";
  if (!status.process_running) return "server is not running";
  return status.http_available ? "server is up" : "server is starting, or does not answer";
}

function tone(status: SupervisorStatus | null): string {
  if (!status?.process_running) return "bad";
  return status.http_available ? "good" : "fair";
}

function facts(status: SupervisorStatus): [string, string][] {
  const held = age(status, Date.now());
  return [
    ["process", status.pid === null ? "none" : String(status.pid)],
    ["port", status.port === null ? "none" : String(status.port)],
    ["unchanged for", held === null ? "unknown" : duration(held)],
  ];
}
