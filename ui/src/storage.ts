// Stores what should survive a reload. If the browser can't store it, as in some private windows or on a full disk, the
// page still works until it is reloaded.
//
// The conversation, settings, model and theme are in localStorage. The key is in sessionStorage: whoever reads it can
// use the server, so it should not outlive the tab in which it was entered.

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
    // Nothing can be done, and nothing on the screen is lost.
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
    // Nothing can be done: the key must be entered again after a reload.
  }
}
