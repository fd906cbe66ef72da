// The supervisor that runs the server, where one does: its status, read once and again at every change.
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

/** The status; null while the supervisor has not answered. */
export function useSupervisor(url: string | null): SupervisorStatus | null {
  const [status, setStatus] = useState<SupervisorStatus | null>(null);
  useEffect(() => {
    if (url === null) return undefined;
    const read = (): void => {
      fetch(`${url}/status`)
        .then((reply) => reply.json() as Promise<SupervisorStatus>)
        .then(setStatus, () => setStatus(null));
    };
    const events = new EventSource(`${url}/events`);
    events.addEventListener("open", read);
    events.addEventListener("error", () => setStatus(null));
    events.addEventListener("mlc-status-changed", (event) =>
      setStatus(JSON.parse(event.data as string) as SupervisorStatus),
    );
    read();
    return () => events.close();
  }, [url]);
  return status;
}

/** Seconds that the status has held; null if it doesn't say. */
export function age(status: SupervisorStatus, now: number): number | null {
  if (status.since === null) return null;
  const start = typeof status.since === "number" ? status.since * 1000 : Date.parse(status.since);
  return Number.isNaN(start) ? null : (now - start) / 1000;
}
