// The status view. It is loaded when it is first opened, because the chat needs no charts.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { StatusView, StatusProps } from "./status_view";

export function StatusPage(props: StatusProps): JSX.Element {
  const [View, setView] = useState<typeof StatusView | null>(null);
  useEffect(() => {
    void import("./status_view").then((module) => setView(() => module.StatusView));
  }, []);
  return View ? <View {...props} /> : <main class="status" aria-busy="true" />;
}
