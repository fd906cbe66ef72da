// What outlives a reload. Where a browser keeps nothing (private windows, full disks) the page works on without.
//
// Conversation, settings, model and theme lie in localStorage. The key lies in sessionStorage: it opens the server
// to whoever reads it, and so should not outlive the tab it was typed into.

const PREFIX = "mlc_serve.";

export function load<T>(name: string, fallback: T): T {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback;
  }
}

export function save(name: string, value: unknown): void {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Nothing to be done, and nothing lost that is on the screen.
  }
}

export function loadKey(): string {
  try {
    return sessionStorage.getItem(`${PREFIX}key`) ?? "";
  } catch {
    return "";
  }
}

export function saveKey(key: string): void {
  try {
    sessionStorage.setItem(`${PREFIX}key`, key);
  } catch {
    // As above.
  }
}
