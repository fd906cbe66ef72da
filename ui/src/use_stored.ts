// State that survives a reload.
import { useEffect, useState } from "preact/hooks";
import { load, save } from "./storage";

export function useStored<T>(name: string, fallback: T): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => load(name, fallback));
  useEffect(() => save(name, value), [name, value]);
  return [value, setValue];
}
