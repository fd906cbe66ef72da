// A button that copies a text and then says that it did.
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

/** Browsers offer navigator.clipboard only over https and on localhost. Elsewhere, the older way works. */
async function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
