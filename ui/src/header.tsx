// The bar at the top, with the views, the model and the theme.
import type { JSX } from "preact";
import { Icon } from "./icons";
import type { Theme } from "./use_theme";
import type { View } from "./use_view";
import type { Model } from "./wire";

const THEMES: Record<Theme, string> = { system: "same as the system", light: "light", dark: "dark" };

interface Props {
  view: View;
  models: Model[];
  model: string;
  onModel: (model: string) => void;
  theme: { theme: Theme; next: () => void };
  /** Lets the user enter another key; null if the server needs none. */
  onKey: (() => void) | null;
}

export function Header({ view, models, model, onModel, theme, onKey }: Props): JSX.Element {
  const themeTitle = `Colours: ${THEMES[theme.theme]}`;
  return (
    <header class="bar">
      <a class="brand" href="#chat" aria-label="mlc_serve">
        <span class="brand-mark" aria-hidden="true" />
        <span class="brand-name">mlc_serve</span>
      </a>
      <nav class="tabs" aria-label="Views">
        <a href="#chat" aria-current={view === "chat" ? "page" : undefined}>
          Chat
        </a>
        <a href="#status" aria-current={view === "status" ? "page" : undefined}>
          Status
        </a>
      </nav>
      <span class="spring" />
      <select class="model" aria-label="Model" value={model} onChange={(event) => onModel(event.currentTarget.value)}>
        {models.length === 0 && <option value="">no model</option>}
        {models.map(({ id }) => (
          <option key={id} value={id}>
            {id}
          </option>
        ))}
      </select>
      {onKey && (
        <button type="button" class="plain" title="Change the API key" aria-label="Change the API key" onClick={onKey}>
          <Icon name="key" />
        </button>
      )}
      <button type="button" class="plain" title={themeTitle} aria-label={themeTitle} onClick={theme.next}>
        <Icon name={theme.theme} />
      </button>
    </header>
  );
}
