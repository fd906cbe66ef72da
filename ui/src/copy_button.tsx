// A button that copies a text and says so.
import type { JSX } from "preact";
import { useState } from "preact/hooks";

const SAID_MILLISECONDS = 1500;

export function CopyButton({ label, text }: { label: string; text: () => string }): JSX.Element {
  const [isCopied, setCopied] = useState(false);
  const onClick = (): void => {
    void copy(text()).then(() => {
      setCopied(true);
      setTimeout(() => setCopied(false), SAID_MILLISECONDS);
    });
  };
  return (
    <button type="button" onClick={onClick}>
      {isCopied ? "Copied" : label}
    </button>
  );
}

/** Browsers have a clipboard on https and on this machine only; elsewhere the older way works. */
async function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
