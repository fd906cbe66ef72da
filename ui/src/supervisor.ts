// The supervisor that runs the server, if there is one. Its stream of events begins with the current status. Nothing
// else is requested, because another answer could be older than an event that came before it.
import { useEffect, useState } from "preact/hooks";

export interface SupervisorStatus {
  process_running: boolean;
  http_available: boolean;
  port: number | null;
  pid: number | null;
  error: string | null;
  /** A date in ISO format, or seconds since the Unix epoch. */
  since: string | number | null;
}

/** The supervisor's status; null while it does not answer. */
export function useSupervisor(url: string | null): SupervisorStatus | null {
  const [status, setStatus] = useState<SupervisorStatus | null>(null);
  useEffect(() => (url === null ? undefined : watchSupervisor(url, setStatus)), [url]);
  return status;
}

/**
 * Passes the current status and then each new one to `tell`, in order, and null when the connection is lost. Returns a
 * function that stops it.
 */
export function watchSupervisor(url: string, tell: (status: SupervisorStatus | null) => void): () => void {
  const events = new EventSource(`${url}/events`);
  events.addEventListener("error", () => tell(null));
  events.addEventListener("mlc-status-changed", (event) => tell(JSON.parse(event.data as string) as SupervisorStatus));
  return () => events.close();
}

/** For how many seconds the status has been the same; null if that is unknown. */
export function age(status: SupervisorStatus, now: number): number | null {
  if (status.since === null) return null;
  const start = typeof status.since === "number" ? status.since * 1000 : Date.parse(status.since);
  return Number.isNaN(start) ? null : (now - start) / 1000;
}
