// The supervisor that runs the server, where one does. Its stream of events begins with the status as it is, so
// that nothing else has to be asked, whose answer could be older than an event.
import { useEffect, useState } from "preact/hooks";

export interface SupervisorStatus {
  process_running: boolean;
  http_available: boolean;
  port: number | null;
  pid: number | null;
  error: string | null;
  /** ISO text, or seconds of the Unix epoch. */
  since: string | number | null;
}

/** The status; null while the supervisor does not answer. */
export function useSupervisor(url: string | null): SupervisorStatus | null {
  const [status, setStatus] = useState<SupervisorStatus | null>(null);
  useEffect(() => (url === null ? undefined : watchSupervisor(url, setStatus)), [url]);
  return status;
}

/** Tells the status now and at every change, in their order, and null when the supervisor is lost, until it is ended. */
export function watchSupervisor(url: string, tell: (status: SupervisorStatus | null) => void): () => void {
  const events = new EventSource(`${url}/events`);
  events.addEventListener("error", () => tell(null));
  events.addEventListener("mlc-status-changed", (event) => tell(JSON.parse(event.data as string) as SupervisorStatus));
  return () => events.close();
}

/** Seconds that the status has held; null if it doesn't say. */
export function age(status: SupervisorStatus, now: number): number | null {
  if (status.since === null) return null;
  const start = typeof status.since === "number" ? status.since * 1000 : Date.parse(status.since);
  return Number.isNaN(start) ? null : (now - start) / 1000;
}
