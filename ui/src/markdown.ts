// Turns Markdown into harmless HTML, because a model's output is not trusted.
import DOMPurify from "dompurify";
import { Marked } from "marked";

const marked = new Marked({
  gfm: true,
  breaks: true,
  async: false,
  renderer: {
    // Loading an image could send parts of the conversation to another server, in the image's address. A link does
    // nothing until it is clicked.
    image({ href, text }) {
      const anchor = document.createElement("a");
      anchor.setAttribute("href", href);
      anchor.textContent = text || href;
      return anchor.outerHTML;
    },
  },
});

const purify = DOMPurify(window);
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
});

export function renderMarkdown(text: string): string {
  return purify.sanitize(marked.parse(text) as string, {
    USE_PROFILES: { html: true },
    FORBID_TAGS: ["img", "picture", "source", "video", "audio", "form", "style", "button", "textarea", "select"],
    FORBID_ATTR: ["style", "class", "id", "name"],
  });
}
