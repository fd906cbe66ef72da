// Light, dark, or as the system has it.
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { useStored } from "./use_stored";

export type Theme = "system" | "light" | "dark";

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const systemDark = matchMedia("(prefers-color-scheme: dark)");

/** The choice, what it comes to, and a step to the next choice. */
export function useTheme(): { theme: Theme; isDark: boolean; next: () => void } {
  const [theme, setTheme] = useStored<Theme>("theme", "system");
  const [isSystemDark, setSystemDark] = useState(systemDark.matches);
  useEffect(() => {
    const follow = (): void => setSystemDark(systemDark.matches);
    systemDark.addEventListener("change", follow);
    return () => systemDark.removeEventListener("change", follow);
  }, []);
  const isDark = theme === "system" ? isSystemDark : theme === "dark";
  // Before other effects, which read colours.
  useLayoutEffect(() => {
    document.documentElement.dataset["theme"] = isDark ? "dark" : "light";
  }, [isDark]);
  return { theme, isDark, next: () => setTheme(NEXT[theme]) };
}
