// Which of the two views is open. This is part of the address, so that links and the back button work.
import { useEffect, useState } from "preact/hooks";

export type View = "chat" | "status";

const current = (): View => (location.hash === "#status" ? "status" : "chat");

export function useView(): View {
  const [view, setView] = useState(current);
  useEffect(() => {
    const follow = (): void => setView(current());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return view;
}
