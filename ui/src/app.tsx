// The frame of the page: which view is open, which model is chosen, and whether a key is needed.
import type { JSX } from "preact";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { Api, type ApiError } from "./api";
import { ChatView } from "./chat_view";
import { Header } from "./header";
import { KeyDialog } from "./key_dialog";
import { DEFAULTS, type Settings } from "./settings";
import { StatusPage } from "./status_page";
import { loadKey, saveKey } from "./storage";
import { useChat } from "./use_chat";
import { useEngine } from "./use_engine";
import { useStored } from "./use_stored";
import { useTheme } from "./use_theme";
import { useView } from "./use_view";
import type { Model } from "./wire";

/** How long to wait before a server that did not answer is asked again. */
const RETRY_MILLISECONDS = 2000;

export function App(): JSX.Element {
  const view = useView();
  const theme = useTheme();
  const [key, setKey] = useState(loadKey);
  const api = useMemo(() => new Api(key), [key]);
  const [refusal, setRefusal] = useState<string | null>(null);
  const [isLocked, setLocked] = useState(key !== "");
  const [models, setModels] = useState<Model[]>([]);
  const [chosen, setChosen] = useStored("model", "");
  const [settings, setSettings] = useStored<Settings>("settings", DEFAULTS);
  const model = models.find(({ id }) => id === chosen)?.id ?? models[0]?.id ?? "";
  const askForKey = useCallback(
    (message: string) => {
      setLocked(true);
      setRefusal(key ? message : "This server asks for an API key.");
    },
    [key],
  );
  const chat = useChat(api, model, { ...DEFAULTS, ...settings }, askForKey);
  const engine = useEngine(api, model, view === "status", askForKey);
  useEffect(() => keepFinding(api, setModels, askForKey), [api, askForKey, engine.isReachable]);

  return (
    <>
      <Header
        view={view}
        models={models}
        model={model}
        onModel={setChosen}
        theme={theme}
        onKey={isLocked ? () => setRefusal("") : null}
      />
      {view === "chat" ? (
        <ChatView
          chat={chat}
          model={model}
          settings={{ ...DEFAULTS, ...settings }}
          onSettings={setSettings}
          hasKey={key !== ""}
        />
      ) : (
        <StatusPage engine={engine} model={model} isDark={theme.isDark} />
      )}
      {refusal !== null && (
        <KeyDialog
          refusal={refusal}
          onKey={(value) => {
            saveKey(value);
            setKey(value);
            setRefusal(null);
          }}
          onClose={() => setRefusal(null)}
        />
      )}
    </>
  );
}

/** Lists the models, trying again while the server does not answer. Returns a function that stops it. */
function keepFinding(
  api: Api,
  onModels: (models: Model[]) => void,
  onUnauthorized: (message: string) => void,
): () => void {
  let timer = 0;
  let isOver = false;
  const find = (): void => {
    api.models().then(
      (models) => isOver || onModels(models),
      (error: ApiError) => {
        if (isOver) return;
        if (error.status === 401) onUnauthorized(error.message);
        else timer = window.setTimeout(find, RETRY_MILLISECONDS);
      },
    );
  };
  find();
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}
