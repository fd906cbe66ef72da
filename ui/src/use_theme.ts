// The page's colours: light, dark, or the same as the system's.
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { useStored } from "./use_stored";

export type Theme = "system" | "light" | "dark";

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const systemDark = matchMedia("(prefers-color-scheme: dark)");

/** Returns the user's choice, whether it makes the page dark, and a function that moves to the next choice. */
export function useTheme(): { theme: Theme; isDark: boolean; next: () => void } {
  const [theme, setTheme] = useStored<Theme>("theme", "system");
  const [isSystemDark, setSystemDark] = useState(systemDark.matches);
  useEffect(() => {
    const follow = (): void => setSystemDark(systemDark.matches);
    systemDark.addEventListener("change", follow);
    return () => systemDark.removeEventListener("change", follow);
  }, []);
  const isDark = theme === "system" ? isSystemDark : theme === "dark";
  // This runs before other effects, because some of them read the colours.
  useLayoutEffect(() => {
    document.documentElement.dataset["theme"] = isDark ? "dark" : "light";
  }, [isDark]);
  return { theme, isDark, next: () => setTheme(NEXT[theme]) };
}
