// Builds the page into the package that serves it. File names are fixed, so that a change of the source changes few
// built files.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

const server = "http://127.0.0.1:8000";

/** Writes the sources' checksums, so that a test without node can tell whether the built files are current. */
function seal(): Plugin {
  return {
    name: "seal",
    apply: "build",
    closeBundle() {
      const sources = readdirSync("src").map((name) => join("src", name));
      const lines = ["index.html", "package-lock.json", "vite.config.ts", ...sources]
        .sort()
        .map((path) => `${createHash("sha256").update(readFileSync(path)).digest("hex")}  ${path}\n`);
      writeFileSync("built.sha256", lines.join(""));
    },
  };
}

export default defineConfig({
  // The page is at / or below a proxy's prefix, and its files are in ui/ beside it.
  base: "./",
  experimental: {
    renderBuiltUrl: (name, { hostType }) => (hostType === "html" ? `ui/${name}` : { relative: true }),
  },
  plugins: [seal()],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: { proxy: { "/v1": server, "/metrics": server, "/ui/engine.json": server } },
  build: {
    outDir: "../mlc_serve/server/ui",
    emptyOutDir: true,
    assetsDir: "",
    assetsInlineLimit: 0,
    modulePreload: false,
    target: "es2022",
    rolldownOptions: {
      output: { entryFileNames: "app.js", chunkFileNames: "[name].js", assetFileNames: "[name][extname]" },
    },
  },
});
